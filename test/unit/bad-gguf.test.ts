// GGUF files that are damaged, or of models that no kernel computes: one line each, quickly, before anything is allocated for what they claim.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { familyFacts } from '../../codegen/model/families.ts';
import { OnelaunchError } from '../../errors.ts';
import { readGguf } from '../../gguf/header.ts';
import { preflight } from '../../preflight.ts';
import { loadTokenizer } from '../../runtime/tokenizer/tokenizer.ts';
import { type Gguf, ggufBytes } from '../support/gguf.ts';
import { wholeNumbers } from '../support/random.ts';
import { failureOf } from '../support/refusal.ts';
import { sentencePieceGguf, smallGguf, withKey, withMore, withTensor, zeros } from '../support/small-gguf.ts';

const folder = mkdtempSync(join(tmpdir(), 'onelaunch-gguf-'));
afterAll(() => rmSync(folder, { recursive: true }));
const path = join(folder, 'm.gguf');

const whole = ggufBytes(smallGguf);
const dataBytes = smallGguf.tensors.reduce((sum, { data }) => sum + data.length, 0);
const headerBytes = whole.length - dataBytes;
/** The file with bytes at a place overwritten. */
function patched(at: number, ...bytes: number[]): Buffer {
  const copy = Buffer.from(whole);
  copy.set(bytes, at);
  return copy;
}
/** Where a text of the header begins. */
const placeOf = (text: string) => whole.indexOf(text);
const huge = [0, 0, 0, 0, 0, 0, 0, 0x10];
const notUtf8 = Buffer.from([0x61, 0xff, 0xfe]);
const of = (architecture: string): Gguf => withKey('general.architecture', { text: architecture });

const pieces = sentencePieceGguf(true);
const withScores = (f32s: readonly number[]): Gguf => ({
  ...pieces,
  metadata: pieces.metadata.map(([key, value]) => [key, String(key).endsWith('.scores') ? { f32s } : value]),
});
type Case = readonly [what: string, file: Gguf | Buffer, message: string | RegExp];
const bad: readonly Case[] = [
  ['nothing', Buffer.alloc(0), 'is empty'],
  ['one byte', Buffer.from('G'), 'is not a GGUF file'],
  ['a text', Buffer.from('This is a text about models.'), 'is not a GGUF file'],
  ['JSON', Buffer.from('{"model_type": "llama"}'), 'is not a GGUF file'],
  ['a git-lfs pointer', Buffer.from('version https://git-lfs.github.com/spec/v1\n'), 'is not a GGUF file'],
  ['zeros', Buffer.alloc(100), 'is not a GGUF file'],
  ['the first four bytes alone', Buffer.from('GGUF'), 'has 4 bytes, too few for a GGUF file'],
  ['version 1', { ...smallGguf, version: 1 }, 'is of version 1 of the format, supported: 2, 3'],
  ['version 4', { ...smallGguf, version: 4 }, 'is of version 4 of the format'],
  ['a big-endian file', { ...smallGguf, version: 0x03000000 }, 'is big-endian, which is not read'],
  ['cut in the metadata', whole.subarray(0, 200), /has 200 bytes, and .* it is cut short or damaged/],
  ['cut in the list of tensors', whole.subarray(0, headerBytes - 100), /it is cut short or damaged/],
  ['cut in the data', whole.subarray(0, whole.length - 1), /would end at byte \d+: it is cut short/],
  [
    '2^60 tensors',
    { ...smallGguf, tensorCount: 2n ** 60n },
    /the number of tensors, of 1152921504606846976,/,
  ],
  ['2^40 tensors', { ...smallGguf, tensorCount: 2n ** 40n }, /the list of tensors, 1099511627776 of them,/],
  [
    '2^60 keys',
    { ...smallGguf, keyCount: 2n ** 60n },
    /the number of metadata keys, of 1152921504606846976,/,
  ],
  ['2^40 keys', { ...smallGguf, keyCount: 2n ** 40n }, /the list of metadata, 1099511627776 of them,/],
  [
    'a key more than there are',
    { ...smallGguf, keyCount: 16n },
    /cut short or damaged|unknown type|no UTF-8/,
  ],
  ['a tensor more than there are', { ...smallGguf, tensorCount: 12n }, /the tensor "" with 0 dimensions/],
  ['a key of 2^60 bytes', patched(24, ...huge), /a metadata key, of 1152921504606846976,/],
  ['a text of 2^60 bytes', patched(placeOf('gpt2') - 8, ...huge), /the metadata "tokenizer.ggml.model", of/],
  ['a list of 2^60 texts', patched(placeOf('<s>') - 16, ...huge), /the list "tokenizer.ggml.tokens", of/],
  [
    'a text in a list of 2^60 bytes',
    patched(placeOf('</s>') - 8, ...huge),
    /the list "tokenizer.ggml.tokens", of/,
  ],
  ['a value of an unknown type', patched(placeOf('gpt2') - 12, 77, 0, 0, 0), 'in the unknown type 77'],
  [
    'a list of lists',
    patched(placeOf('<s>') - 20, 9, 0, 0, 0),
    'has lists in the list "tokenizer.ggml.tokens"',
  ],
  [
    'a key twice',
    { ...smallGguf, metadata: [...smallGguf.metadata, ['llama.block_count', { u32: 1 }]] },
    'has the metadata "llama.block_count" twice',
  ],
  [
    'a key that is no UTF-8',
    { ...smallGguf, metadata: [...smallGguf.metadata, [notUtf8, { u32: 1 }]] },
    'has a metadata key that is no UTF-8',
  ],
  ['a text that is no UTF-8', withKey('general.name', { text: notUtf8 }), /"general.name" that is no UTF-8/],
  [
    'a token that is no UTF-8',
    withKey('tokenizer.ggml.tokens', { texts: ['<s>', '</s>', 'a', notUtf8, 'ab', 'c', 'x', 'y'] }),
    'has a text in "tokenizer.ggml.tokens", number 3, that is no UTF-8',
  ],
  ['a part of a split model', withKey('split.count', { u32: 3 }), 'is part 1 of 3 of a split model'],
  ['an alignment of 0', withKey('general.alignment', { u32: 0 }), 'has general.alignment 0'],
  ['an alignment of 24', withKey('general.alignment', { u32: 24 }), 'has general.alignment 24'],
  ['no architecture', withKey('general.architecture', undefined), 'lacks general.architecture'],
  ['an architecture that is a number', withKey('general.architecture', { u32: 3 }), 'must be a text'],
  [
    'a mixture of experts',
    of('qwen3moe'),
    'has general.architecture "qwen3moe", supported: qwen3, qwen2, llama',
  ],
  ['another family', of('gemma3'), 'has general.architecture "gemma3"'],
  ['experts', withKey('llama.expert_count', { u32: 8 }), 'has llama.expert_count 8, supported: 0'],
  [
    'a window',
    withKey('llama.attention.sliding_window', { u32: 32 }),
    'has llama.attention.sliding_window 32',
  ],
  [
    'longrope',
    withKey('llama.rope.scaling.type', { text: 'longrope' }),
    'llama.rope.scaling.type "longrope"',
  ],
  ['a factor of 0.5', withKey('llama.rope.scaling.factor', { f32: 0.5 }), 'rope.scaling.factor of linear'],
  ['a part of a head rotated', withKey('llama.rope.dimension_count', { u32: 8 }), 'supported: 16'],
  ['scaled logits', withKey('llama.logit_scale', { f32: 0.5 }), 'has llama.logit_scale 0.5, supported: none'],
  ...[
    ...['attention.value_length', 'attention.clamp_kqv', 'attention.max_alibi_bias', 'attention.scale'],
    ...['residual_scale', 'embedding_scale'],
  ].map(
    (key) => [key, withKey(`llama.${key}`, { f32: 0.5 }), `has llama.${key} 0.5, supported: `] satisfies Case,
  ),
  ['no layers', withKey('llama.block_count', undefined), 'lacks llama.block_count'],
  ['0 layers', withKey('llama.block_count', { u32: 0 }), 'llama.block_count is 0, must be a whole number'],
  ['2^32 layers', withKey('llama.block_count', { u32: 2 ** 32 - 1 }), 'llama.block_count is 4294967295'],
  [
    'a number of heads for each layer',
    withKey('llama.attention.head_count', { i32s: [2] }),
    'must be a number',
  ],
  ['0 heads', withKey('llama.attention.head_count', { u32: 0 }), 'llama.attention.head_count is 0'],
  [
    'a factor that is no number',
    withKey('llama.rope.scaling.factor', { f32: Number.NaN }),
    'has NaN for llama.rope.scaling.factor, which must be finite',
  ],
  [
    'an endless window',
    withKey('llama.attention.sliding_window', { f32: Infinity }),
    'has Infinity for llama.',
  ],
  [
    'a score that is no number',
    withScores([0, Number.NaN]),
    'has NaN for tokenizer.ggml.scores, which must be finite',
  ],
  ['an epsilon of 0', withKey('llama.attention.layer_norm_rms_epsilon', { f32: 0 }), 'rms_epsilon is 0'],
  ['more layers than tensors', withKey('llama.block_count', { u32: 2 }), 'lacks blk.1.attn_norm.weight, '],
  ['no embedding', withTensor('token_embd.weight', undefined), 'lacks token_embd.weight, the embedding'],
  ['no norm', withTensor('output_norm.weight', undefined), 'lacks output_norm.weight'],
  ['a bias', withMore(zeros('blk.0.attn_q.bias', 32)), 'holds blk.0.attn_q.bias, which a dense llama model'],
  [
    'a tensor twice',
    withMore(zeros('output_norm.weight', 32)),
    'holds the tensor "output_norm.weight" twice',
  ],
  [
    'another shape',
    withTensor('blk.0.ffn_up.weight', zeros('blk.0.ffn_up.weight', 32, 16)),
    'has blk.0.ffn_up.weight as [32, 16], [32, 32] is needed',
  ],
  ['a size of 0', withTensor('blk.0.ffn_up.weight', { shape: [32, 0] }), 'as [32, 0]'],
  [
    'a size of 2^60',
    withTensor('blk.0.ffn_up.weight', { shape: [32, 2n ** 60n] }),
    /of 1152921504606846976,/,
  ],
  [
    'sizes whose product is 2^100',
    withTensor('blk.0.ffn_up.weight', { shape: [2 ** 50, 2 ** 50] }),
    'cut short',
  ],
  [
    'nine dimensions',
    withTensor('blk.0.ffn_up.weight', { shape: [1, 1, 1, 1, 1, 1, 1, 1, 1] }),
    '9 dimensions',
  ],
  ['an offset past the end', withTensor('output_norm.weight', { offset: 2 ** 40 }), 'would end at byte'],
  ['an offset of 2^63', withTensor('output_norm.weight', { offset: 2n ** 63n }), 'of 9223372036854775808'],
  ['an offset that is not aligned', withTensor('output_norm.weight', { offset: 36 }), 'not a multiple of 32'],
  ['tensors that overlap', withTensor('output_norm.weight', { offset: 0 }), 'they overlap'],
  ['a type that is not read', withTensor('blk.0.ffn_up.weight', { type: 16 }), 'as IQ2_XXS, supported: F32'],
  ['ternary numbers', withTensor('blk.0.ffn_up.weight', { type: 34 }), 'as TQ1_0, supported: F32'],
  ['four-bit floats', withTensor('blk.0.ffn_up.weight', { type: 39 }), 'as MXFP4, supported: F32'],
  ['an unknown type', withTensor('blk.0.ffn_up.weight', { type: 1234 }), 'as the unknown type 1234'],
  [
    'rows that are no whole blocks',
    withTensor('blk.0.ffn_up.weight', { type: 'Q4_K' }),
    'whole blocks of 256',
  ],
  [
    'pieces without scores',
    withKey('tokenizer.ggml.model', { text: 'llama' }),
    'lacks tokenizer.ggml.scores',
  ],
  ['WordPiece', withKey('tokenizer.ggml.model', { text: 'bert' }), 'which is WordPiece, supported: "gpt2"'],
  [
    'a vocabulary named like what all objects have',
    withKey('tokenizer.ggml.model', { text: 'constructor' }),
    'has the vocabulary "constructor", supported: "gpt2"',
  ],
  ['fewer scores than pieces', withScores([0, -1]), 'has 276 tokens, and 2 scores of tokens'],
  [
    'an unknown pre-tokenizer',
    withKey('tokenizer.ggml.pre', { text: 'tekken' }),
    'has tokenizer.ggml.pre "tekken"',
  ],
  ['no pre-tokenizer', withKey('tokenizer.ggml.pre', undefined), 'lacks tokenizer.ggml.pre'],
  ['no types of tokens', withKey('tokenizer.ggml.token_type', undefined), 'lacks tokenizer.ggml.token_type'],
  [
    'too few types',
    withKey('tokenizer.ggml.token_type', { i32s: [1] }),
    'has 8 tokens, and 1 types of tokens',
  ],
  [
    'more numbers than memory has room for',
    withKey('tokenizer.ggml.token_type', { i32s: Array<number>((1 << 20) + 1).fill(1) }),
    'has a list of 1048577 for tokenizer.ggml.token_type, and at most 1048576 are read',
  ],
  [
    'a first token that there is not',
    withKey('tokenizer.ggml.bos_token_id', { u32: 99 }),
    'has 99 for tokenizer.ggml.bos_token_id, and tokens 0 to 7',
  ],
  ['a merge of one part', withKey('tokenizer.ggml.merges', { texts: ['ab'] }), 'has the merge "ab"'],
  [
    'more tokens than rows',
    withKey('tokenizer.ggml.tokens', { texts: Array.from({ length: 9 }, String) }),
    /has 9 tokens/,
  ],
  ['no chat template', withKey('tokenizer.chat_template', undefined), 'no chat template in'],
  ['too few factors', withMore(zeros('rope_freqs.weight', 4)), 'has rope_freqs.weight as F32 [4], F32 [8]'],
  [
    'factors of another kind',
    withMore({
      ...zeros('rope_freqs.weight', 8),
      data: new Uint8Array(Float32Array.of(1, 2, 1, 3, 1, 2, 1, 9).buffer),
    }),
    "has in rope_freqs.weight factors that Llama 3's scaling",
  ],
];

const refusal = (of = path): Promise<OnelaunchError> =>
  failureOf(preflight({ model: of, target: 'cpu' }, { weights: true, tokenizer: 'needed', template: true }));

test('the file that the others are made from is a model', async () => {
  writeFileSync(path, whole);
  const { dims } = await preflight(
    { model: path, target: 'cpu' },
    { weights: true, tokenizer: 'needed', template: true },
  );
  expect(dims).toMatchObject({
    name: 'm',
    family: 'llama',
    headDim: 16,
    vocab: 8,
    tiedHead: true,
    dtype: 'fp32',
  });
});

test.each(bad)('%s', async (_, file, message) => {
  writeFileSync(path, Buffer.isBuffer(file) ? file : ggufBytes(file));
  const before = process.memoryUsage().rss;
  const started = process.cpuUsage();
  const error = await refusal();
  // Processor time [us]: a machine that stands still meanwhile does not count.
  const { user, system } = process.cpuUsage(started);
  expect(user + system).toBeLessThan(2e6);
  expect(process.memoryUsage().rss - before).toBeLessThan(200e6);
  expect(error.kind).toBe('usage');
  expect(error.message).toContain(path);
  expect(error.message).not.toContain('\n');
  if (typeof message === 'string') expect(error.message).toContain(message);
  else expect(error.message).toMatch(message);
  expect(error.hint).toMatch(/./);
});

test('another family is told from a file that is damaged', async () => {
  writeFileSync(path, ggufBytes(of('gemma3')));
  expect(await refusal()).toMatchObject({
    ...{ name: 'ModelNotSupportedError', modelType: 'gemma3', setting: 'general.architecture' },
  });
  const { hint } = await refusal();
  for (const { architecture } of Object.values(familyFacts))
    expect(hint?.replaceAll('-', '')).toContain(architecture);
  writeFileSync(path, whole.subarray(0, 100));
  expect((await refusal()).name).toBe('OnelaunchError');
});

test('a folder of that name, a folder with such files, a file that is not there', async () => {
  const named = join(folder, 'folder.gguf');
  mkdirSync(named);
  expect((await refusal(named)).message).toBe(`no config.json in ${named}`);
  writeFileSync(join(named, 'a.gguf'), whole);
  const inside = await refusal(named);
  expect(inside.message).toBe(`no config.json in ${named}, which holds the GGUF file a.gguf`);
  expect(inside.hint).toContain(`Give the file itself: ${join(named, 'a.gguf')}`);
  expect((await refusal('models/nowhere.gguf')).message).toBe('no file models/nowhere.gguf');
});

test('a file that its disk does not give is named, and no fault of the user', async () => {
  // Nothing is mapped at its beginning.
  const error = await refusal('/proc/self/mem');
  const { message, kind, hint } = error;
  expect({ message, kind }).toEqual({
    message: '/proc/self/mem cannot be read: EIO',
    kind: 'environment',
  });
  expect(hint).toContain('disk');
});

/** What is not refused is read to the end. */
function readAll(bytes: Buffer): void {
  writeFileSync(path, bytes);
  try {
    readGguf(path);
    loadTokenizer(path);
  } catch (error) {
    if (!(error instanceof OnelaunchError)) throw error;
  }
}

test('a file cut anywhere in its header is refused, and none crashes', () => {
  for (let length = 0; length < headerBytes; length += 3) {
    writeFileSync(path, whole.subarray(0, length));
    expect(() => readGguf(path), `${length} bytes`).toThrow(OnelaunchError);
  }
});

test('bytes changed at random are read or refused', () => {
  const random = wholeNumbers(7);
  for (let run = 0; run < 300; run++) {
    const bytes = Buffer.from(whole);
    for (let i = 0; i <= random(4); i++) bytes[random(headerBytes)] = random(256);
    readAll(bytes);
  }
});
