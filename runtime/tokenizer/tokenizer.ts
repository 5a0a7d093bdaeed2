// Text to token ids and back, and the stream that prints a reply token by token.
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Tokenizer as Engine } from '@huggingface/tokenizers';
import { OnelaunchError } from '../../errors.ts';
import { isGgufFile } from '../../gguf/header.ts';
import { hasVocabulary } from '../../gguf/vocabulary.ts';
import { TimeLimit, withinTime } from '../time-limit.ts';
import { byteLetters } from './byte-letters.ts';
import { namedSpecial, readTokenizerConfig } from './config.ts';
import { mark, markerOf, readTokenizerFile, withAdded, withSpecial } from './file.ts';
import { keepSingleWords } from './single-words.ts';

/** What a tokenizer was read from. */
export interface TokenizerOrigin {
  readonly directory: string;
  /** Tells its files from what may have taken their place. */
  readonly files: string;
}

export interface Tokenizer {
  readonly origin: TokenizerOrigin;
  /** Highest id + 1: rows of the logits from here on have no text. */
  readonly size: number;
  /** The added tokens, special or not, as they are spelled. */
  readonly added: ReadonlyMap<number, string>;
  /** Ids that are never printed, such as <|im_end|>. */
  readonly specialIds: ReadonlySet<number>;
  /** The id of one token, as it is spelled in tokenizer.json. */
  idOf(token: string): number | undefined;
  /** Special tokens written in the text are always recognised; addSpecialTokens (default false: chat templates write their
   *  own) adds those that the model expects around a text, such as Llama's <|begin_of_text|>. */
  encode(text: string, options?: { addSpecialTokens?: boolean }): number[];
  /** The text, for a prompt in which its special tokens are text: encode finds none in it, and gives else what it would give
   *  for the text itself. */
  plain(text: string): string;
  /** The text of ids, without special tokens. Ids that have no token are skipped. */
  decode(ids: readonly number[]): string;
  /** What a token adds to a text, in UTF-8; of an added token, how it is spelled. None of an id that has no token. */
  bytes(id: number): Uint8Array;
  stream(): TextStream;
}

/** The pieces of a reply: all of them joined are what decode gives for all ids. No piece ends inside a character. */
interface TextStream {
  push(id: number): string;
  /** What was held back, with U+FFFD for a character that was never finished. */
  end(): string;
}

/** Where a model has its tokenizer: tokenizer.json, or the GGUF file that it is; null: nowhere. */
export function tokenizerFile(directory: string): string | null {
  if (isGgufFile(directory)) return hasVocabulary(directory) ? directory : null;
  const path = join(directory, 'tokenizer.json');
  return existsSync(path) ? path : null;
}

/** The path of tokenizer.json, or of the GGUF file that holds its own. @throws OnelaunchError of kind usage where there is none */
function tokenizerPath(directory: string): string {
  if (isGgufFile(directory)) return directory;
  const path = join(directory, 'tokenizer.json');
  if (!existsSync(path)) {
    const old = ['tokenizer.model', 'vocab.json', 'tiktoken.model'].find((file) =>
      existsSync(join(directory, file)),
    );
    const hint =
      old === undefined
        ? "Copy tokenizer.json and tokenizer_config.json from the model's own repository."
        : `Only ${old} is here: in Python, AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) writes tokenizer.json.`;
    throw new OnelaunchError('usage', `no tokenizer.json in ${directory}`, { hint });
  }
  return path;
}

/** The added tokens alone, of a tokenizer that nothing is to be read with: many times faster.
 *  @throws OnelaunchError of kind usage. */
export function readAddedTokens(directory: string): Pick<Tokenizer, 'added' | 'specialIds' | 'idOf'> {
  const { added: tokens } = readFiles(directory, tokenizerPath(directory)).file;
  return {
    added: new Map(tokens.map(({ id, content }) => [id, content])),
    specialIds: new Set(tokens.filter(({ special }) => special).map(({ id }) => id)),
    idOf: (token) => tokens.find(({ content }) => content === token)?.id,
  };
}

function readFiles(directory: string, path: string) {
  const config = readTokenizerConfig(directory);
  const file = withAdded(readTokenizerFile(path), config.added);
  return { config, file: withSpecial(file, namedSpecial(config)) };
}

/** The tokenizer of the model in a directory: tokenizer.json, and tokenizer_config.json if there is one.
 *  @throws OnelaunchError of kind usage. */
export function loadTokenizer(directory: string): Tokenizer {
  const path = tokenizerPath(directory);
  // A GGUF file has no other beside it.
  const beside = path === directory ? [] : ['tokenizer_config.json', 'special_tokens_map.json'];
  const files = [path, ...beside.map((name) => join(directory, name))];
  const origin = { directory, files: files.map(dated).join() };
  const { config, file } = readFiles(directory, path);
  const limited = limiter(path);
  const engine = createEngine(file.json, config.json, path, (build) =>
    limited(2000 + file.entries / 10, 'to build its tokenizer', build),
  );
  keepSingleWords(engine, file.added, mark);

  const vocab = engine.get_vocab();
  const tokens: (string | undefined)[] = [];
  for (const [token, id] of vocab) tokens[id] = token;
  const added = new Map(file.added.map(({ id, content }) => [id, content]));
  const specialIds = new Set(file.added.filter(({ special }) => special).map(({ id }) => id));
  for (const token of namedSpecial(config)) {
    const id = vocab.get(token);
    if (id !== undefined && added.has(id)) specialIds.add(id);
  }

  const isPrinted = (id: number) => tokens[id] !== undefined && !specialIds.has(id);
  const decode = (ids: readonly number[]): string => {
    const printed = ids.filter(isPrinted);
    // The clean-up, which Llama 3's files ask for, would take away spaces that the model wrote.
    const run = () => engine.decode(printed, { clean_up_tokenization_spaces: false });
    if (printed.length === 0) return '';
    return file.decodesByPattern ? limited(2000, `for the text of ${printed.length} tokens`, run) : run();
  };
  const isByteLevel = file.decoder === 'ByteLevel';
  const piece = (id: number): Uint8Array => {
    const text = added.get(id);
    return text === undefined ? bytesOf(tokens[id]!) : Buffer.from(text);
  };
  return {
    origin,
    size: tokens.length,
    added,
    specialIds,
    idOf: (token) => vocab.get(token),
    plain: markerOf([...specialIds].flatMap((id) => added.get(id) ?? [])),
    encode: (text, { addSpecialTokens = false } = {}) => {
      if (text === '' && !addSpecialTokens) return [];
      const isKnown = file.encodesAsKnown && text.length <= knownCharacters;
      const millis = isKnown ? null : 2000 + text.length / 20;
      const { ids } = limited(millis, `for a text of ${text.length} characters`, () =>
        engine.encode(text, { add_special_tokens: addSpecialTokens }),
      );
      if (ids.every(Number.isInteger)) return ids;
      throw new OnelaunchError(
        'usage',
        `${path} has no token for a part of the text, and none for the unknown`,
        {
          hint: "Compare with the file in the model's own repository.",
        },
      );
    },
    decode,
    bytes: (id) => {
      const token = added.get(id) ?? tokens[id] ?? '';
      if (added.has(id)) return Buffer.from(token);
      if (isByteLevel) return bytesOf(token);
      const [, byte] = /^<0x([0-9A-F]{2})>$/.exec(token) ?? [];
      if (byte !== undefined) return Uint8Array.of(Number.parseInt(byte, 16));
      // Decoders may treat the beginning of a text in their own way.
      return Buffer.from(decode([id, id]).slice(decode([id]).length));
    },
    stream: () => (isByteLevel ? byteStream(isPrinted, piece) : diffStream(isPrinted, decode)),
  };
}

/** When a file was last written, and its size. */
function dated(path: string): string {
  const { mtimeMs, size } = statSync(path, { throwIfNoEntry: false }) ?? {};
  return `${mtimeMs} ${size}`;
}

/** Texts that take no more than 0.1 s where the steps are known [characters]. A limit has a thread of its own that is started and waited
 *  for, which takes milliseconds where the cores are busy, and holds up all other replies meanwhile. */
const knownCharacters = 10_000;

/** Runs what the file decides, and names the file if it does not end. Limits are fifty times what real files take.
 *  @param millis null: no limit, of what is known to end */
const limiter =
  (path: string) =>
  <T>(millis: number | null, what: string, run: () => T): T => {
    try {
      return millis === null ? run() : withinTime(millis, run);
    } catch (cause) {
      const isLate = cause instanceof TimeLimit;
      const why = isLate ? `took more than ${Math.round(millis! / 1000)} s` : 'cannot be used';
      const after = isLate || !(cause instanceof Error) ? '' : `: ${cause.message.split('\n')[0]}`;
      throw new OnelaunchError('usage', `${path} ${why} ${what}${after}`, {
        hint: "Its steps may be to blame: compare with the file in the model's own repository.",
        cause,
      });
    }
  };

function createEngine(
  json: object,
  config: object,
  path: string,
  limited: (build: () => Engine) => Engine,
): Engine {
  try {
    return limited(() => new Engine(json, config));
  } catch (cause) {
    const error = cause instanceof OnelaunchError ? cause.cause : cause;
    if (error instanceof TimeLimit) throw cause;
    const text = String(error instanceof Error ? error.message : error).split('\n')[0];
    throw new OnelaunchError('usage', `${path} is not a tokenizer that can be read: ${text}`, {
      hint: "Compare with the file in the model's own repository; BPE, Unigram and WordPiece models are supported.",
      cause: error,
    });
  }
}

const byteOf: ReadonlyMap<string, number> = new Map(byteLetters.map((letter, byte) => [letter, byte]));

/** Bytes of a byte-level BPE token, whose every letter stands for one byte.
 *  Source: bytes_to_unicode in OpenAI's GPT-2 encoder.py. */
function bytesOf(token: string): Uint8Array {
  return Uint8Array.from(token, (letter) => byteOf.get(letter) ?? 0x3f);
}

function byteStream(isPrinted: (id: number) => boolean, piece: (id: number) => Uint8Array): TextStream {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  return {
    push: (id) => (isPrinted(id) ? decoder.decode(piece(id), { stream: true }) : ''),
    end: () => decoder.decode(),
  };
}

/** For decoders that look at the neighbours of a token: decodes the last printed tokens with and without the new one.
 *  Both windows start at the same token, so what a decoder takes from the start of a text is taken from both. */
function diffStream(
  isPrinted: (id: number) => boolean,
  decode: (ids: readonly number[]) => string,
): TextStream {
  let told: number[] = [];
  let held: number[] = [];
  const rest = () => decode([...told, ...held]).slice(decode(told).length);
  return {
    push: (id) => {
      if (!isPrinted(id)) return '';
      held.push(id);
      const text = rest();
      // U+FFFD at the end may be the first bytes of a character.
      if (text === '' || text.endsWith('\ufffd')) return '';
      told = held;
      held = [];
      return text;
    },
    end: () => (held.length === 0 ? '' : rest()),
  };
}
