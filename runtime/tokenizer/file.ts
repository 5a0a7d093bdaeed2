// tokenizer.json, checked before the library builds anything of it, and mended where the library reads it wrongly.
import { z } from 'zod';
import { OnelaunchError } from '../../errors.ts';
import { isGgufFile } from '../../gguf/header.ts';
import { knownPatterns } from '../../gguf/pre-tokenizers.ts';
import { tokenizerOf } from '../../gguf/vocabulary.ts';
import { checkShape, mostTokenizerBytes, readJson } from '../json-file.ts';
import type { AddedToken } from './config.ts';
import { checkMerges } from './merges.ts';

const id = z.int().nonnegative();
const addedToken = z.looseObject({
  id,
  content: z.string(),
  special: z.boolean().nullish(),
  single_word: z.boolean().nullish(),
  normalized: z.boolean().nullish(),
});
const tokenizerFile = z.looseObject({
  added_tokens: z.array(addedToken),
  model: z.looseObject({
    type: z.enum(['BPE', 'Unigram', 'WordPiece']).nullish(),
    // Of BPE and WordPiece an object of ids, of Unigram a list of tokens with their scores.
    vocab: z.custom<object>((vocab) => typeof vocab === 'object' && vocab !== null, 'expected object'),
  }),
  decoder: z.looseObject({ type: z.string() }).nullish(),
});

export interface TokenizerFile {
  readonly added: readonly {
    readonly id: number;
    readonly content: string;
    readonly special: boolean;
    /** It is looked for in the normalized text. */
    readonly isNormalized: boolean;
    /** It is found only where it is no part of a word. */
    readonly isSingleWord: boolean;
  }[];
  /** The type of the decoder, undefined without one. */
  readonly decoder: string | undefined;
  /** The decoder has a regular expression, whose time nothing bounds. */
  readonly decodesByPattern: boolean;
  /** A text is cut and merged by steps of known models alone: what a short one takes is known. */
  readonly encodesAsKnown: boolean;
  /** The file for the library. */
  readonly json: object;
  /** About its size [characters]. */
  readonly entries: number;
}

/** A step of a tokenizer: a normalizer, pre-tokenizer, post-processor or decoder. Its other keys depend on its type. */
type Step = { readonly type?: unknown } & { readonly [key: string]: unknown };

/** The tokenizer.json at a path, or that of a GGUF file.
 *  @throws OnelaunchError of kind usage: another shape, ids far beyond the vocabulary, steps that multiply a text. */
export function readTokenizerFile(path: string): TokenizerFile {
  const isGguf = isGgufFile(path) && !path.endsWith('.json');
  const json = isGguf ? tokenizerOf(path) : readJson(path, { mostBytes: mostTokenizerBytes });
  const file = checkShape(tokenizerFile, json, path);
  checkIds(file, path);
  const { type = null, merges } = file.model;
  if (type === 'BPE' || (type === null && merges !== undefined)) checkMerges(file.model, path);
  for (const key of ['normalizer', 'pre_tokenizer', 'post_processor', 'decoder'])
    checkGrowth(file[key], key, path);
  return {
    added: addedOf(file.added_tokens),
    decoder: file.decoder?.type,
    decodesByPattern: stepsOf(file.decoder).some(({ pattern }) => isObject(pattern) && 'Regex' in pattern),
    encodesAsKnown:
      file.model.type === 'BPE' &&
      ['normalizer', 'pre_tokenizer', 'post_processor'].every((key) => stepsOf(file[key]).every(isKnown)),
    json: {
      ...file,
      pre_tokenizer: { type: 'Sequence', pretokenizers: [dropMark, ...mend(file['pre_tokenizer'])] },
    },
    entries: Object.keys(file.model.vocab).length,
  };
}

/** The file with the added tokens of tokenizer_config.json: it wins where both have one, and what it has alone is a word of the vocabulary or stands behind
 *  all. A text is cut at each. Source: TokenizersBackend of transformers 5, and add_tokens of tokenizers. */
export function withAdded(file: TokenizerFile, tokens: readonly AddedToken[]): TokenizerFile {
  const { model, added_tokens } = file.json as z.infer<typeof tokenizerFile>;
  const all = new Map(added_tokens.map((token) => [token.content, token]));
  const idOf = idsIn(model.vocab);
  let next = added_tokens.reduce((most, { id }) => Math.max(most, id + 1), Object.keys(model.vocab).length);
  for (const token of tokens) {
    const id = all.get(token.content)?.id ?? idOf(token.content) ?? next;
    next = Math.max(next, id + 1);
    all.set(token.content, { ...token, id });
  }
  return tokens.length === 0 ? file : withTokens(file, [...all.values()]);
}

/** The file with those of these special tokens among the added ones that are words of its vocabulary alone: a text with one is cut there.
 *  Source: TokenizersBackend of transformers 5, which adds what tokenizer_config.json names. */
export function withSpecial(file: TokenizerFile, named: readonly string[]): TokenizerFile {
  const known = new Set(file.added.map(({ content }) => content));
  const { model, added_tokens } = file.json as z.infer<typeof tokenizerFile>;
  const idOf = idsIn(model.vocab);
  const more = [...new Set(named)].flatMap((content) => {
    const id = known.has(content) ? undefined : idOf(content);
    return id === undefined ? [] : [{ id, content, special: true, normalized: false }];
  });
  return more.length === 0 ? file : withTokens(file, [...added_tokens, ...more]);
}

/** Ids by words, undefined where the vocabulary has none. */
function idsIn(vocab: object): (word: string) => number | undefined {
  if (!Array.isArray(vocab)) {
    const ids = vocab as Readonly<Record<string, number>>;
    return (word) => (Object.hasOwn(ids, word) ? ids[word] : undefined);
  }
  const pieces = vocab.map((piece): unknown => Array.isArray(piece) && piece[0]);
  const ids = new Map(pieces.map((piece, id) => [piece, id] as const).reverse());
  return (word) => ids.get(word);
}

const withTokens = (file: TokenizerFile, tokens: readonly z.infer<typeof addedToken>[]): TokenizerFile => ({
  ...file,
  added: addedOf(tokens),
  json: { ...file.json, added_tokens: tokens },
});

const addedOf = (tokens: readonly z.infer<typeof addedToken>[]): TokenizerFile['added'] =>
  tokens.map(({ id, content, special, normalized, single_word }) => ({
    ...{ id, content },
    special: special === true,
    isNormalized: normalized ?? special !== true,
    isSingleWord: single_word === true,
  }));

/** The library makes a list as long as the highest id. */
function checkIds({ model, added_tokens: added }: z.infer<typeof tokenizerFile>, path: string): void {
  const vocab: [string, unknown][] = Array.isArray(model.vocab) ? [] : Object.entries(model.vocab);
  const count = added.length + Object.keys(model.vocab).length;
  // Files leave room for tokens to come, but not that much.
  const most = 2 * count + 1000;
  const named = [...vocab, ...added.map((token) => [token.content, token.id] as const)];
  for (const [token, id] of named) {
    if (typeof id === 'number' && Number.isInteger(id) && id >= 0 && id <= most) continue;
    const shown = `${JSON.stringify(token.slice(0, 40))} has id ${JSON.stringify(id)?.slice(0, 40)}`;
    throw new OnelaunchError('usage', `${path}: the token ${shown}, in a vocabulary of ${count} tokens`, {
      hint: "Compare with the file in the model's own repository.",
    });
  }
}

/** Steps may make a text so many times as long, all together. Those of known models: 4, as bytes stand for characters. */
const mostGrowth = 64;

function checkGrowth(step: unknown, key: string, path: string): void {
  let growth = 1;
  for (const each of stepsOf(step)) {
    growth *= growthOf(each);
    if (growth > mostGrowth) {
      throw new OnelaunchError(
        'usage',
        `${path}: the steps of ${key} make a text more than ${mostGrowth} times as long`,
        { hint: "Compare with the file in the model's own repository." },
      );
    }
    if (each.type === 'FixedLength' && !(typeof each['length'] === 'number' && each['length'] >= 1)) {
      throw new OnelaunchError('usage', `${path}: a step of ${key} cuts pieces of length ${each['length']}`, {
        hint: "Compare with the file in the model's own repository.",
      });
    }
  }
}

/** How many times as long the step can make a text. */
function growthOf(step: Step): number {
  const size = (value: unknown) => (typeof value === 'string' ? value.length : 0);
  const { type, pattern } = step;
  switch (type) {
    case 'Replace': {
      const text = isObject(pattern) ? size(pattern['String']) : 0;
      // A regular expression may match between all letters.
      return text > 0 ? Math.max(1, size(step['content']) / text) : 1 + size(step['content']);
    }
    case 'Metaspace':
      return (
        Math.max(1, size(step['str_rep']), size(step['replacement'])) * (step['replacement'] === '' ? 2 : 1)
      );
    case 'ByteLevel':
      return 4;
    case 'BertNormalizer':
      return 3;
    case 'Prepend':
      return 1 + size(step['prepend']) / 16;
    case 'BPEDecoder':
      return size(step['suffix']) > 0 ? 1 : 2;
    case 'CTC':
      return size(step['word_delimiter_token']) > 0 ? 1 : 2;
    case 'TemplateProcessing': {
      const single = Array.isArray(step['single']) ? step['single'] : [];
      return Math.max(1, single.filter((item) => isObject(item) && 'Sequence' in item).length);
    }
    default:
      return 1;
  }
}

/** The step, or those that it is a sequence of. */
function stepsOf(step: unknown): Step[] {
  if (!isObject(step)) return [];
  const inner = ['normalizers', 'pretokenizers', 'processors', 'decoders'].map((key) => step[key]);
  return step['type'] === 'Sequence' ? inner.flat().flatMap(stepsOf) : [step];
}

/** Whether nothing of a step but its kind says how long a text takes. */
function isKnown({ type, pattern, behavior, invert }: Step): boolean {
  if (type === 'NFC' || type === 'ByteLevel' || type === 'Digits' || type === 'TemplateProcessing')
    return true;
  if (type !== 'Split' || behavior !== 'Isolated' || invert === true) return false;
  return isObject(pattern) && typeof pattern['Regex'] === 'string' && knownPatterns.has(pattern['Regex']);
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Pre-tokenizers that @huggingface/tokenizers 0.2.0 reads otherwise than the tokenizers of transformers do, as those that it
 *  reads alike: its Digits know no ½ and no ², its Whitespace no é, its Punctuation always takes a run as one, and its Split
 *  always leaves what it finds alone. */
function mend(step: unknown): unknown[] {
  if (step === null || step === undefined) return [];
  if (!isObject(step)) return [step];
  const { type, pretokenizers, behavior, pattern } = step;
  const found = (Regex: string) => ({
    type: 'Split',
    pattern: { Regex },
    behavior: 'Isolated',
    invert: false,
  });
  const kept = (Regex: string) => ({ type: 'Split', pattern: { Regex }, behavior: 'Removed', invert: true });
  if (type === 'Sequence' && Array.isArray(pretokenizers)) return pretokenizers.flatMap(mend);
  if (type === 'Digits') return [found(step['individual_digits'] === true ? '\\p{N}' : '\\p{N}+')];
  if (type === 'Whitespace') return [kept('\\w+|[^\\w\\s]+')];
  const split = type === 'Punctuation' ? { Regex: punctuation } : type === 'Split' ? pattern : undefined;
  if (!isObject(split) || step['invert'] === true) return [step];
  const { Regex, String: text } = split;
  const one = typeof Regex === 'string' ? Regex : typeof text === 'string' ? escaped(text) : undefined;
  if (one === undefined) return [step];
  if (behavior === 'Contiguous') return [found(`(?:${one})+`)];
  if (behavior === 'MergedWithPrevious') return [kept(`[\\s\\S]*?(?:${one})|[\\s\\S]+`)];
  if (behavior === 'MergedWithNext')
    return [kept(`(?:${one})(?:(?!${one})[\\s\\S])*|(?:(?!${one})[\\s\\S])+`)];
  if (behavior === 'Removed') return [{ ...found(one), behavior }];
  return [type === 'Punctuation' ? found(one) : step];
}

const punctuation = '[\\p{P}\\x21-\\x2f\\x3a-\\x40\\x5b-\\x60\\x7b-\\x7e]';

const escaped = (text: string) => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');

/** Stands inside the spelling of a special token that is meant as text. Three characters that Unicode keeps out of texts. */
export const mark = '\ufdd0\ufdd1\ufdd0';

/** Special tokens are found before this step, and the words after it. */
const dropMark = { type: 'Replace', pattern: { String: mark }, content: '' };

/** What makes a text one in which none of these special tokens is found, though it is tokenized as it is spelled. */
export function markerOf(special: readonly string[]): (text: string) => string {
  const spellings = special.filter((spelling) => spelling.length > 1);
  if (spellings.length === 0) return (text) => text;
  const any = spellings.map(escaped).join('|');
  // Every place where one begins: they may overlap.
  const begins = new RegExp(`(?=${any})[^]`, 'g');
  return (text) => text.replace(begins, (first) => first + mark);
}
