// The vocabulary and chat template in a GGUF file, as the tokenizer.json and tokenizer_config.json that they were made from.
import { type GgufFile, readGguf } from './header.ts';
import { type Metadata, metadataOf } from './metadata.ts';
import { preTokenizers } from './pre-tokenizers.ts';
import { broken, shown } from './refusals.ts';
import { sentencePieceSteps } from './sentence-pieces.ts';

const prefix = 'tokenizer.ggml';
const useFolder = 'Use the folder of the model, with its tokenizer.json and safetensors files.';

/** Of tokenizer.ggml.token_type. */
const tokenType = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** Whether the file has a vocabulary. */
export const hasVocabulary = (path: string): boolean => readGguf(path).metadata.has(`${prefix}.tokens`);

/** @throws OnelaunchError of kind usage: another kind of vocabulary than byte-level BPE and SentencePiece, an unknown pre-tokenizer, lists that
 *  do not belong together. */
export function tokenizerOf(path: string): object {
  const file = readGguf(path);
  const metadata = metadataOf(file);
  const kind = kindOf(path, metadata);
  const lists = readLists(file, metadata);
  const { tokens, types } = lists;
  const isAdded = (type: number | undefined) =>
    type === tokenType.control || type === tokenType.userDefined || type === tokenType.unknown;
  const ids = [...tokens.keys()];
  const added = ids
    .filter((id) => isAdded(types[id]))
    .map((id) => addedToken(id, tokens[id]!, types[id] !== tokenType.userDefined));
  const { addsBos, model, ...steps } =
    kind === 'gpt2' ? byteLevel(path, metadata) : sentencePieces(path, metadata, lists);
  // What stands for the unknown is one of both.
  const vocab = ids.filter(
    (id) => types[id] !== tokenType.unused && (!isAdded(types[id]) || tokens[id] === model.unk_token),
  );
  return {
    version: '1.0',
    added_tokens: added,
    ...steps,
    post_processor: surroundedBy({
      bos: addedOf('bos', { path, metadata, tokens }, addsBos),
      eos: addedOf('eos', { path, metadata, tokens }, false),
    }),
    model: { ...model, vocab: Object.fromEntries(vocab.map((id) => [tokens[id]!, id])) },
  };
}

function byteLevel(path: string, metadata: Metadata) {
  const pre = metadata.text(`${prefix}.pre`);
  const found = pre === undefined ? undefined : preTokenizers.get(pre);
  if (found === undefined) {
    const what = pre === undefined ? `lacks ${prefix}.pre` : `has ${prefix}.pre ${shown(pre)}`;
    throw broken(path, `${what}, supported: ${[...preTokenizers.keys()].join(', ')}`, useFolder);
  }
  const merges = needed(path, 'merges', metadata.texts);
  const wrong = merges.find((merge) => !/^[^ ]+ [^ ]+$/.test(merge));
  if (wrong !== undefined) throw broken(path, `has the merge ${shown(wrong)}, which is not of two parts`);
  return {
    addsBos: found.addsBos,
    normalizer: found.normalizer,
    pre_tokenizer: { type: 'Sequence', pretokenizers: found.steps },
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      ...{ type: 'BPE', dropout: null, unk_token: null, byte_fallback: false, fuse_unk: false },
      ...{ continuing_subword_prefix: null, end_of_word_suffix: null },
      ...{ ignore_merges: found.ignoreMerges, merges },
    },
  };
}

function sentencePieces(path: string, metadata: Metadata, { tokens, types }: ReturnType<typeof readLists>) {
  const scores = needed(path, 'scores', metadata.numbers);
  if (scores.length !== tokens.length)
    throw broken(path, `has ${tokens.length} tokens, and ${scores.length} scores of tokens`);
  const plain = [...tokens.keys()].filter((id) => types[id] === tokenType.normal);
  const unknown = tokens.find((_, id) => types[id] === tokenType.unknown);
  const addsSpace = metadata.flag(`${prefix}.add_space_prefix`) ?? true;
  return { addsBos: true, ...sentencePieceSteps({ tokens, scores, plain, unknown, addsSpace }) };
}

function addedToken(id: number, content: string, special: boolean) {
  const plain = { single_word: false, lstrip: false, rstrip: false, normalized: false };
  return { id, content, special, ...plain };
}

/** @throws OnelaunchError of kind usage: a vocabulary of another kind, or none. */
function kindOf(path: string, metadata: Metadata): 'gpt2' | 'llama' {
  const kind = metadata.text(`${prefix}.model`);
  if (kind === 'gpt2' || kind === 'llama') return kind;
  const known: Readonly<Record<string, string>> = {
    ...{ bert: 'WordPiece', t5: 'Unigram', rwkv: 'RWKV' },
    ...{ no_vocab: 'none', none: 'none' },
  };
  const name = kind !== undefined && Object.hasOwn(known, kind) ? known[kind] : undefined;
  const what = kind === undefined ? `lacks ${prefix}.model` : `has the vocabulary ${shown(kind)}`;
  const meaning = name === undefined ? '' : name === 'none' ? ', which is none' : `, which is ${name}`;
  const supported = 'supported: "gpt2", which is byte-level BPE, and "llama", which is SentencePiece';
  throw broken(path, `${what}${meaning}, ${supported}`, useFolder);
}

function needed<T>(path: string, key: string, read: (key: string) => T | undefined): T {
  const value = read(`${prefix}.${key}`);
  if (value === undefined) throw broken(path, `lacks ${prefix}.${key}`, useFolder);
  return value;
}

function readLists({ path, tensors }: GgufFile, metadata: Metadata) {
  const tokens = needed(path, 'tokens', metadata.texts);
  const types = needed(path, 'token_type', metadata.numbers);
  if (types.length !== tokens.length)
    throw broken(path, `has ${tokens.length} tokens, and ${types.length} types of tokens`);
  const rows = tensors.get('token_embd.weight')?.shape[1] ?? Number.POSITIVE_INFINITY;
  if (tokens.length > rows)
    throw broken(path, `has ${tokens.length} tokens, and an embedding of ${rows} rows`);
  return { tokens, types };
}

interface Special {
  readonly id: number;
  readonly token: string;
}

/** The token that a text begins or ends with; undefined: none. @param usual where the file does not say whether it does
 *  @throws OnelaunchError of kind usage: a token that the vocabulary does not have */
function addedOf(
  name: 'bos' | 'eos',
  {
    path,
    metadata,
    tokens,
  }: { readonly path: string; readonly metadata: Metadata; readonly tokens: readonly string[] },
  usual: boolean,
): Special | undefined {
  if (!(metadata.flag(`${prefix}.add_${name}_token`) ?? usual)) return undefined;
  const key = `${prefix}.${name}_token_id`;
  const id = metadata.number(key);
  if (id === undefined) return undefined;
  const token = tokens[id];
  if (token === undefined)
    throw broken(path, `has ${id} for ${key}, and tokens 0 to ${tokens.length - 1}`, useFolder);
  return { id, token };
}

function surroundedBy({ bos, eos }: Readonly<Record<'bos' | 'eos', Special | undefined>>): object {
  const one = (special: Special | undefined, type_id: number) =>
    special ? [{ SpecialToken: { id: special.token, type_id } }] : [];
  const text = (id: string, type_id: number) => [
    ...one(bos, type_id),
    { Sequence: { id, type_id } },
    ...one(eos, type_id),
  ];
  const known = [bos, eos].flatMap((special) => special ?? []);
  return {
    type: 'TemplateProcessing',
    single: text('A', 0),
    pair: [...text('A', 0), ...text('B', 1)],
    special_tokens: Object.fromEntries(
      known.map(({ id, token }) => [token, { id: token, ids: [id], tokens: [token] }]),
    ),
  };
}

/** Special tokens and chat templates, as tokenizer_config.json names them. @throws OnelaunchError of kind usage */
export function tokenizerConfigOf(path: string): object {
  const file = readGguf(path);
  const metadata = metadataOf(file);
  const tokens = metadata.texts(`${prefix}.tokens`) ?? [];
  const named = [
    ...(['bos', 'eos'] as const).map(
      (name) => [`${name}_token`, metadata.number(`${prefix}.${name}_token_id`)] as const,
    ),
    ['pad_token', metadata.number(`${prefix}.padding_token_id`)] as const,
    ['unk_token', metadata.number(`${prefix}.unknown_token_id`)] as const,
  ];
  const key = 'tokenizer.chat_template';
  const templates = [...file.metadata.keys()]
    .filter((one) => one === key || one.startsWith(`${key}.`))
    .map((one) => ({
      name: one === key ? 'default' : one.slice(key.length + 1),
      template: metadata.text(one)!,
    }));
  return {
    ...Object.fromEntries(
      named.flatMap(([name, id]) =>
        id === undefined || tokens[id] === undefined ? [] : [[name, tokens[id]]],
      ),
    ),
    ...(templates.length > 0 && { chat_template: templates }),
  };
}

/** What llama.cpp takes for the end of a reply, beside the ids that a file names. */
const ends = [
  '<|im_end|>',
  '<|eot_id|>',
  '<|eom_id|>',
  '<|end|>',
  '<end_of_turn>',
  '<|endoftext|>',
  '<|end_of_text|>',
];

/** Ids of the tokens that end a reply. @throws OnelaunchError of kind usage */
export function stopIdsOf(path: string): number[] {
  const metadata = metadataOf(readGguf(path));
  const named = ['eos', 'eot', 'eom'].flatMap((name) => metadata.number(`${prefix}.${name}_token_id`) ?? []);
  const types = metadata.numbers(`${prefix}.token_type`) ?? [];
  const tokens = metadata.texts(`${prefix}.tokens`) ?? [];
  const known = ends.map((end) => tokens.indexOf(end)).filter((id) => types[id] === tokenType.control);
  return [...new Set([...named, ...known])];
}
