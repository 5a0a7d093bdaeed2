// A GGUF file is the model of the folder that it was made from: dims, tensors, tokens, templates and the ends of replies.
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, test } from 'vitest';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { readModel } from '../../codegen/model/read-config.ts';
import { readGguf } from '../../gguf/header.ts';
import { metadataOf } from '../../gguf/metadata.ts';
import { preflight } from '../../preflight.ts';
import { chatTemplate } from '../../runtime/chat/chat-template.ts';
import { readGenerationConfig } from '../../runtime/generation-config.ts';
import { readReferenceModel } from '../../runtime/reference/weights.ts';
import { loadTokenizer } from '../../runtime/tokenizer/tokenizer.ts';
import { checkpointTensors } from '../../runtime/weights/checkpoint.ts';
import { fixtures } from '../support/fixtures.ts';
import { type Gguf, ggufOf, type MatrixType, type Value, vocabularyOf, writeGguf } from '../support/gguf.ts';
import { makeQwenDirectory, tinyDirectory } from '../support/model-directory.ts';
import { makeScaled } from '../support/scaled-positions.ts';
import { sentencePieceGguf, smallGguf, withKey, withMore, zeros } from '../support/small-gguf.ts';

const folder = mkdtempSync(join(tmpdir(), 'onelaunch-gguf-'));
afterAll(() => rmSync(folder, { recursive: true }));
const fixture = (name: string) => join(packageRoot(), 'test/fixtures', name);

// A GGUF file of a Mistral is one of a Llama, which says nothing of windows.
const models = fixtures.filter((name) => name !== 'mistral-micro').map(fixture);
test.each([...models, tinyDirectory])('%s has the dims of its file, scaled positions too', (directory) => {
  const path = writeGguf(
    join(folder, 'same.gguf'),
    ggufOf(directory, () => 'BF16'),
  );
  const { dims } = readModel(path);
  const { dims: right } = readModel(directory);
  const { ropeScaling: scaling } = right;
  // A file has LongRoPE's size of cosines as float32.
  const ropeScaling =
    scaling?.type === 'longrope' ? { ...scaling, attention: Math.fround(scaling.attention) } : scaling;
  expect({ ...dims, name: '' }).toEqual({ ...right, name: '', ropeScaling });
});

test.each([...models, tinyDirectory])('%s has the tensors of its file, to the oracle too', (directory) => {
  const path = writeGguf(
    join(folder, 'same.gguf'),
    ggufOf(directory, () => 'BF16'),
  );
  const [file, checkpoint] = [checkpointTensors(path), checkpointTensors(directory)];
  const shapes = (tensors: typeof file) => [...tensors].map(([name, { shape }]) => `${name} ${shape}`).sort();
  expect(shapes(file)).toEqual(shapes(checkpoint));
  const [read, right] = [readReferenceModel(path).tensors, readReferenceModel(directory).tensors];
  // toEqual of millions of numbers takes a minute.
  const differing = [...file.keys()].filter(
    (name) => Buffer.compare(bytes(read(name)), bytes(right(name))) !== 0,
  );
  expect(differing).toEqual([]);
});

test.each<[readonly MatrixType[], string]>([
  [['BF16'], 'bf16'],
  [['F16'], 'fp16'],
  [['F32'], 'fp32'],
  [['F16', 'F32'], 'fp32'],
  [['BF16', 'F16'], 'fp32'],
  [['Q4_0', 'F16'], 'bf16'],
  [['Q8_0'], 'bf16'],
])('matrices of %j make a model of %s', (types, dtype) => {
  let next = 0;
  const gguf = ggufOf(fixture('qwen3-micro'), () => types[next++ % types.length]!);
  expect(readModel(writeGguf(join(folder, 'typed.gguf'), gguf)).dims.dtype).toBe(dtype);
});

test('an untied head is used, and layers of Llama 3 with other bounds are found', () => {
  const gguf = ggufOf(fixture('llama3-micro'), () => 'F32');
  const factors = gguf.tensors.find(({ name }) => name === 'rope_freqs.weight')!;
  expect(readModel(writeGguf(join(folder, 'l.gguf'), gguf)).dims).toMatchObject({
    tiedHead: false,
    ropeScaling: { factor: 32, lowFreqFactor: 1, highFreqFactor: 4, originalPositions: 64 },
  });
  const ones = { ...factors, data: new Uint8Array(new Float32Array(16).fill(1).buffer) };
  const plain = { ...gguf, tensors: gguf.tensors.map((one) => (one === factors ? ones : one)) };
  expect(readModel(writeGguf(join(folder, 'l.gguf'), plain)).dims.ropeScaling).toBe(null);
});

test('bounds of Llama 3 that no other model has are fitted to two factors between them', () => {
  const [factor, low, high, positions] = [8, 2, 32, 8192];
  const factors = Float32Array.from({ length: 8 }, (_, i) => {
    const turns = positions / (2 * Math.PI * 10000 ** (i / 8));
    const smooth = Math.min(1, Math.max(0, (turns - low) / (high - low)));
    return 1 / ((1 - smooth) / factor + smooth);
  });
  expect(factors.filter((value) => value > 1 && value < factor)).toHaveLength(2);
  const tensor = { ...zeros('rope_freqs.weight', 8), data: new Uint8Array(factors.buffer) };
  const { ropeScaling } = readModel(writeGguf(join(folder, 'fitted.gguf'), withMore(tensor))).dims;
  expect(ropeScaling).toEqual({
    ...{ type: 'llama3', factor, originalPositions: positions },
    ...{ lowFreqFactor: expect.closeTo(low, 3), highFreqFactor: expect.closeTo(high, 3) },
  });
});

test('scales of Granite that are left out or 0 multiply by nothing, and one below 0 is refused', () => {
  const gguf = ggufOf(fixture('granite-micro'), () => 'BF16');
  const factorsWith = (scale: (value: number) => number | null) => {
    const metadata = gguf.metadata.flatMap(([key, value]) => {
      const old = /\.(?:attention\.scale|[a-z]+_scale)$/.test(String(key))
        ? (value as { f32: number }).f32
        : null;
      if (old === null) return [[key, value] as const];
      const f32 = scale(old);
      return f32 === null ? [] : [[key, { f32 }] as const];
    });
    return readModel(writeGguf(join(folder, 'scales.gguf'), { ...gguf, metadata })).dims.factors;
  };
  expect(factorsWith((value) => value)).toMatchObject({ branch: 0.5, logits: 1 / 1.5 });
  const none = { branch: 1, scores: expect.closeTo(1 / Math.sqrt(32), 6), logits: 1 };
  expect([factorsWith(() => 0), factorsWith(() => null)]).toEqual([none, none]);
  expect(() => factorsWith((value) => -value)).toThrow('must be more than 0 and at most 1000000');
});

test('factors of LongRoPE and the window of Phi-3 are those of the folder, and half of them are refused', async () => {
  const config = JSON.parse(readFileSync(join(fixture('phi3-micro'), 'config.json'), 'utf8'));
  const factors = (step: number) => Array.from({ length: 48 }, (_, i) => Number((1 + step * i).toFixed(2)));
  const rope_parameters = { rope_type: 'longrope', rope_theta: 1e4, short_factor: factors(0.02) };
  const directory = mkdtempSync(join(folder, 'long-'));
  cpSync(join(fixture('phi3-micro'), 'model.safetensors'), join(directory, 'model.safetensors'));
  writeFileSync(
    join(directory, 'config.json'),
    JSON.stringify({
      ...{ ...config, original_max_position_embeddings: 64 },
      rope_parameters: { ...rope_parameters, long_factor: factors(0.35) },
    }),
  );
  const gguf = ggufOf(directory, () => 'BF16');
  const path = writeGguf(join(folder, 'long.gguf'), gguf);
  const [{ dims }, right] = [readModel(path), readModel(directory).dims];
  const attention = Math.sqrt(1 + Math.log(8) / Math.log(64));
  expect(right.ropeScaling).toMatchObject({ type: 'longrope', originalPositions: 64, attention });
  // The file has it as float32.
  const inFile = { ...right.ropeScaling, attention: Math.fround(attention) };
  expect({ ...dims, name: '' }).toEqual({ ...right, name: '', ropeScaling: inFile });
  expect(dims.kinds).toEqual([{ name: 'window', window: 24, rope: true }]);
  const read = readReferenceModel(path).dims.ropeScaling;
  expect(read).toMatchObject({ type: 'longrope', originalPositions: 64, attention: Math.fround(attention) });

  // The context of the engine chooses the factors, of a folder and of a file.
  for (const model of [directory, path]) {
    const positions = async (context: number | undefined) =>
      (await preflight({ model, target: 'cpu' }, { run: { context } })).dims.maxPositions;
    expect([await positions(64), await positions(65), await positions(undefined)]).toEqual([64, 512, 512]);
  }

  const without = (name: string) => ({
    metadata: gguf.metadata.filter(([key]) => key !== name),
    tensors: gguf.tensors.filter((one) => one.name !== name),
  });
  const cut = [
    'rope_factors_long.weight',
    'rope_factors_short.weight',
    'phi3.rope.scaling.original_context_length',
  ];
  for (const name of cut)
    expect(() => readModel(writeGguf(join(folder, 'cut.gguf'), without(name)))).toThrow(`lacks ${name}`);
});

describe('scaled positions', () => {
  const scaledGguf = (name: Parameters<typeof makeScaled>[1]) =>
    ggufOf(makeScaled(folder, name), () => 'BF16');
  /** A file with other metadata of the scaling, without the architecture before the keys. */
  const changed = (of: Gguf, keys: Readonly<Record<string, Value | undefined>>): string => {
    const named = new Map(of.metadata);
    for (const [key, value] of Object.entries(keys)) {
      if (value === undefined) named.delete(`qwen3.rope.${key}`);
      else named.set(`qwen3.rope.${key}`, value);
    }
    return writeGguf(join(folder, 'scaled.gguf'), { ...of, metadata: [...named] });
  };
  const scalings = (path: string) => [
    readModel(path).dims.ropeScaling,
    readReferenceModel(path).dims.ropeScaling,
  ];

  test.each(['linear', 'yarn'] as const)('of type %s are those of the folder, to the oracle too', (name) => {
    const path = changed(scaledGguf(name), {});
    const [dims, oracle] = scalings(path);
    expect(dims).toEqual(readModel(join(folder, name)).dims.ropeScaling);
    expect(oracle).toEqual(readReferenceModel(join(folder, name)).dims.ropeScaling);
  });

  test('of YaRN are those of llama.cpp: its names, and cosines as much larger as a file says', () => {
    const yarn = scaledGguf('yarn');
    const usual = 1 + 0.1 * Math.log(4);
    const { maxPositions } = readModel(join(folder, 'yarn')).dims;
    for (const read of scalings(changed(yarn, { 'scaling.attn_factor': { f32: 1.5 } })))
      expect(read).toMatchObject({ attention: expect.closeTo(1.5 * usual, 12) });
    const least = { 'scaling.original_context_length': undefined, 'scaling.yarn_beta_fast': { f32: 32 } };
    for (const read of scalings(changed(yarn, { ...least, 'scaling.yarn_attn_factor': { f32: usual } })))
      expect(read).toMatchObject({ factor: 4, betaFast: 32, originalPositions: maxPositions });
    for (const read of scalings(changed(yarn, { 'scaling.type': { text: 'none' } }))) expect(read).toBe(null);
  });

  test.each<[string, Readonly<Record<string, Value | undefined>>, string]>([
    ['betas of its own', { 'scaling.yarn_beta_fast': { f32: 20 } }, 'yarn_beta_fast 20, supported: 32'],
    [
      'cosines by another name',
      { 'scaling.yarn_attn_factor': { f32: 1.25 } },
      'yarn_attn_factor 1.25, supported: 1.13',
    ],
    ['no extrapolation', { 'scaling.yarn_ext_factor': { f32: 0 } }, 'yarn_ext_factor 0, supported: 1'],
    ['a factor of mscale', { 'scaling.yarn_log_multiplier': { f32: 0.1 } }, 'yarn_log_multiplier 0.1'],
    [
      'larger cosines without YaRN',
      { 'scaling.type': { text: 'linear' }, 'scaling.attn_factor': { f32: 2 } },
      'attn_factor 2, supported: 1',
    ],
    [
      'scaling of other models',
      { 'scaling.type': { text: 'longrope' } },
      'type "longrope", supported: none, linear, yarn',
    ],
    [
      'a factor below 1',
      { 'scaling.factor': { f32: 0.5 } },
      'qwen3.rope.scaling.factor of yarn rope scaling is 0.5, must be from 1',
    ],
    [
      'no positions before',
      { 'scaling.original_context_length': { u32: 0 } },
      'original_context_length of yarn rope scaling is 0',
    ],
  ])('are refused: %s', (_, keys, message) => {
    expect(() => readModel(changed(scaledGguf('yarn'), keys))).toThrow(message);
  });

  test('are refused beside those of Llama 3', () => {
    const gguf = ggufOf(fixture('llama3-micro'), () => 'F32');
    const metadata = [...gguf.metadata, ['llama.rope.scaling.factor', { f32: 4 }] as const];
    const path = writeGguf(join(folder, 'both.gguf'), { ...gguf, metadata });
    expect(() => readModel(path)).toThrow(
      'has rope_freqs.weight, and scaled positions of type linear beside it',
    );
  });
});

const bytes = ({ buffer, byteOffset, byteLength }: Float32Array) =>
  Buffer.from(buffer, byteOffset, byteLength);

const nasty = [
  'Hello, 世界! naïve café ½ ²³ 😀 12345 \t\n\n  x  \r\n',
  '<|im_start|>user\nhi<|im_end|>\n<think>\n</think>',
  "I'm we'LL they'd  ...!?  \u0301e\u0301 한국어 हिन्दी",
  '',
];
const texts = (directory: string) => [
  ...nasty,
  readFileSync(join(packageRoot(), 'docs/decisions.md'), 'utf8').slice(0, 20_000),
  directory,
];

test('tokens are those of tokenizer.json, and so are texts', () => {
  const qwen = makeQwenDirectory();
  const vocabulary = ggufOf(tinyDirectory, () => 'BF16');
  const ofQwen = { ...vocabulary, metadata: vocabularyOf(qwen, 151_936), tensors: [] };
  for (const [directory, gguf] of [[tinyDirectory, vocabulary] as const, [qwen, ofQwen] as const]) {
    const [file, right] = [loadTokenizer(writeGguf(join(folder, 't.gguf'), gguf)), loadTokenizer(directory)];
    expect(file.size).toBe(right.size);
    expect(file.added).toEqual(right.added);
    expect(file.specialIds).toEqual(right.specialIds);
    for (const text of texts(directory)) {
      const ids = right.encode(text);
      expect(file.encode(text)).toEqual(ids);
      expect(file.decode(ids)).toBe(right.decode(ids));
      expect(file.encode(file.plain(text))).toEqual(right.encode(right.plain(text)));
    }
  }
});

test('the chat template, and the tokens that end a reply', () => {
  const path = writeGguf(
    join(folder, 'c.gguf'),
    ggufOf(tinyDirectory, () => 'BF16'),
  );
  const messages = [{ role: 'user', content: 'What is meta?' }];
  expect(chatTemplate(path)(messages)).toBe(chatTemplate(tinyDirectory)(messages));
  const { stopIds, chatStopIds, doSample, notes } = readGenerationConfig(path);
  // <|endoftext|> ends a reply to llama.cpp whatever a file says.
  expect({ stopIds, chatStopIds, doSample, notes }).toEqual({
    ...{ stopIds: [2, 0], chatStopIds: [2, 0], doSample: false, notes: [] },
  });
});

test('a text begins with bos where Llama 3 or the file says so', () => {
  const ids = (gguf: typeof smallGguf) =>
    loadTokenizer(writeGguf(join(folder, 'b.gguf'), gguf)).encode('abx a</s>', { addSpecialTokens: true });
  expect(ids(smallGguf)).toEqual([0, 4, 6, 5, 2, 1]);
  expect(ids(withKey('tokenizer.ggml.add_bos_token', { flag: false }))).toEqual([4, 6, 5, 2, 1]);
  expect(ids(withKey('tokenizer.ggml.pre', { text: 'smollm' }))).toEqual([4, 6, 5, 2, 1]);
});

test('a text ends with eos where the file says so, as those of embeddings do', () => {
  const ids = (flag: boolean, addSpecialTokens = true) =>
    loadTokenizer(
      writeGguf(join(folder, 'e.gguf'), withKey('tokenizer.ggml.add_eos_token', { flag })),
    ).encode('ab', { addSpecialTokens });
  expect(ids(true)).toEqual([0, 4, 1]);
  expect(ids(false)).toEqual([0, 4]);
  expect(ids(true, false)).toEqual([4]);
});

/** Source: llama_tokenize of llama.cpp, by node-llama-cpp 3.22.1, of these very files. */
const pieceIds: [text: string, behindSpace: number[], without: number[]][] = [
  ['the heathen', [261, 270, 260, 273, 271, 260, 266], [271, 260, 270, 260, 273, 271, 260, 266]],
  [' the', [270, 261], [261]],
  ['  a hen\n', [265, 263, 270, 260, 266, 13], [270, 263, 270, 260, 266, 13]],
  ['tin</s>tin', [259, 262, 2, 259, 262], [271, 262, 2, 271, 262]],
  ['é日', [270, 274, 233, 154, 168], [274, 233, 154, 168]],
  ['a<tool>the', [263, 275, 261], [273, 275, 271, 260]],
  ['rain', [270, 269, 273, 262], [269, 273, 262]],
  ['', [], []],
];
test.each([true, false])(
  'a vocabulary of SentencePiece has the ids of llama.cpp, add_space_prefix %s',
  (addsSpace) => {
    const path = writeGguf(join(folder, 's.gguf'), sentencePieceGguf(addsSpace));
    const tokenizer = loadTokenizer(path);
    for (const [text, behindSpace, without] of pieceIds) {
      const ids = addsSpace ? behindSpace : without;
      expect(tokenizer.encode(text), text).toEqual(ids);
      expect(tokenizer.encode(text, { addSpecialTokens: true })).toEqual([1, ...ids]);
      if (/</.test(text)) continue;
      expect(tokenizer.decode(ids)).toBe(text);
      const stream = tokenizer.stream();
      expect(ids.map((id) => stream.push(id)).join('') + stream.end()).toBe(text);
      expect(
        Buffer.concat(ids.map((id) => tokenizer.bytes(id)))
          .toString()
          .trimStart(),
      ).toBe(text.trimStart());
    }
    const config = chatTemplate(path)([{ role: 'user', content: 'a hen' }]);
    expect(tokenizer.encode(config)).toEqual([1, ...(addsSpace ? [263] : [273]), 270, 260, 266]);
  },
);

test('a file without a vocabulary is a model for tokens', async () => {
  const gguf = ggufOf(fixture('llama3-micro'), () => 'Q8_0');
  const path = writeGguf(join(folder, 'n.gguf'), gguf);
  const { files } = await preflight({ model: path, target: 'cpu' }, { weights: true, tokenizer: 'optional' });
  expect(files.tokenizer).toBe(null);
  expect([...readGguf(path).tensors.values()].filter(({ type }) => type.name === 'Q8_0').length).toBe(16);
});

test('a header is read once, until its file is written again', async () => {
  const path = join(folder, 'again.gguf');
  const write = (text: string) => writeGguf(path, withKey('general.name', { text }));
  write('one');
  await sleep(100);
  const first = readGguf(path);
  expect(readGguf(path)).toBe(first);
  write('two');
  expect(readGguf(path).metadata.get('general.name')).toBe('two');
  write('six');
  expect(readGguf(path).metadata.get('general.name')).toBe('six');
});

test('a list of a header is read once, and only as what it is', () => {
  const path = writeGguf(join(folder, 'list.gguf'), smallGguf);
  const file = readGguf(path);
  const tokens = metadataOf(file).texts('tokenizer.ggml.tokens');
  expect(metadataOf(file).texts('tokenizer.ggml.tokens')).toBe(tokens);
  expect(() => metadataOf(file).numbers('tokenizer.ggml.tokens')).toThrow('must be a list of numbers');
});
