import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { parseDims } from '../../codegen/model/parse-dims.ts';
import { type ReferenceDims, referenceCache, referenceForward } from '../../runtime/reference/reference.ts';
import { readReferenceModel } from '../../runtime/reference/weights.ts';
import { readGolden } from '../../runtime/verify/golden.ts';
import { tolerance } from '../../runtime/verify/tolerance.ts';
import { writeSafetensors } from '../../runtime/weights/safetensors.ts';
import { fixtures } from '../support/fixtures.ts';
import { makeQuantised, quantisedFixtures } from '../support/quantised-fixtures.ts';
import { makeScaled, scaledPositions } from '../support/scaled-positions.ts';
import { oneOf } from '../support/thorough.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folders = [...fixtures.map((name) => `test/fixtures/${name}`), 'models/qwen3-tiny'];
const micro = join(root, folders[0]!);
const temporary = mkdtempSync(join(tmpdir(), 'reference-'));
afterAll(() => rmSync(temporary, { recursive: true }));

describe('independence', () => {
  test.each([
    ['reference.ts', []],
    ['blocks.ts', []],
    ['quantised.ts', []],
    [
      'gguf.ts',
      [
        [undefined, './blocks.ts'],
        ['type ', './reference.ts'],
      ],
    ],
    [
      'weights.ts',
      [
        [undefined, './blocks.ts'],
        [undefined, './gguf.ts'],
        [undefined, './quantised.ts'],
        ['type ', './reference.ts'],
      ],
    ],
  ])('%s imports no code of ours but that of the reference', (file, allowed) => {
    const source = readFileSync(join(root, 'runtime/reference', file), 'utf8');
    const imports = [
      ...source.matchAll(/^import (type )?(?:[^;]*? from )?'([^']+)'|import\(['"]([^'"]+)/gms),
    ];
    const ours = imports.filter((match) => !(match[2] ?? match[3])!.startsWith('node:'));
    expect(ours.map((match) => [match[1], match[2] ?? match[3]])).toEqual(allowed);
    expect(source).not.toMatch(/\brequire\(|export .* from/);
  });
});

test('keys and values in int8 are whole steps of a scale for each position and head, the nearest ones', () => {
  const { dims, tensors } = readReferenceModel(micro);
  const ids = [3, 1, 4, 1, 5];
  const keptIn = (storage: 'fp32' | 'int8') => {
    const cache = referenceCache(dims);
    referenceForward(dims, tensors, ids, { cache, storage, firstLogits: ids.length - 1 });
    return cache;
  };
  const [exact, rounded] = [keptIn('fp32'), keptIn('int8')];
  const rows = ids.length * dims.kvHeads;
  for (const part of ['keys', 'values'] as const) {
    for (let row = 0; row < rows; row++) {
      const of = (cache: typeof exact, layer: number) =>
        cache[part][layer]!.subarray(row * dims.headDim, (row + 1) * dims.headDim);
      // What the second layer is given depends on what the first one rounded.
      const scale = Math.fround(Math.max(...of(exact, 0).map(Math.abs)) / 127);
      of(rounded, 0).forEach((value, i) => {
        const steps = Math.round(value / scale);
        expect(value).toBe(Math.fround(steps * scale));
        expect(Math.abs(of(exact, 0)[i]! / scale - steps)).toBeLessThanOrEqual(0.5 + 127 * 2 ** -23);
      });
      expect(of(rounded, 1)).not.toEqual(of(exact, 1));
    }
  }
});

describe('agreement with transformers', () => {
  const paths = [
    ...folders.map((folder) => [folder, () => join(root, folder), undefined] as const),
    ...scaledPositions.map((name) => [name, () => makeScaled(temporary, name), undefined] as const),
    ...quantisedFixtures.map(
      ([name, layers]) =>
        [
          `${name} in ${layers}`,
          () => makeQuantised(temporary, name, layers),
          { layers, embedding: 'bf16', head: 'bf16' },
        ] as const,
    ),
  ];
  test.each(paths)(
    'logits and likelihoods of %s differ by float32 rounding only',
    async (_, pathOf, formats) => {
      const folder = await pathOf();
      const { dims, tensors } = readReferenceModel(folder, formats);
      const golden = readGolden(join(folder, 'golden.json'), { vocab: dims.vocab });
      let logitError = 0;
      let nllError = 0;
      let squares = 0;
      let logits = 0;
      const cases = oneOf(2, golden.cases);
      for (const { promptIds, greedyIds, expected, nll } of cases) {
        const ids = [...promptIds, ...greedyIds];
        const out = referenceForward(dims, tensors, ids);
        const row = (r: number) => out.subarray(r * dims.vocab, (r + 1) * dims.vocab);
        for (const { row: r, ids: listed, logits: wanted } of expected) {
          for (let i = 0; i < wanted.length; i++) {
            logitError = Math.max(logitError, Math.abs(row(r)[listed?.[i] ?? i]! - wanted[i]!));
          }
          logits += dims.vocab;
          squares += row(r).reduce((sum, z) => sum + z * z, 0);
        }
        let sum = 0;
        for (let r = 0; r < nll!.rows; r++) {
          const z = row(r);
          const top = z.reduce((a, b) => Math.max(a, b));
          sum +=
            top + Math.log(z.reduce((total, value) => total + Math.exp(value - top), 0)) - z[ids[r + 1]!]!;
        }
        nllError = Math.max(nllError, Math.abs(sum / nll!.rows - nll!.value));
      }
      const bounds = tolerance({
        dims,
        dtype: 'fp32',
        positions: 200,
        counted: logits,
        logitRms: Math.sqrt(squares / logits),
        decimals: golden.decimals,
        nll: { cases: cases.length, targets: 1, decimals: golden.nllDecimals },
      });
      expect(logitError).toBeLessThanOrEqual(bounds.logit);
      expect(nllError).toBeLessThanOrEqual(bounds.nll!);
    },
  );
});

describe('the forward pass', () => {
  const { dims, tensors } = readReferenceModel(micro);
  const ids = [5, 17, 300, 17, 2, 511, 44];

  test('continuing a cache gives the bits of one pass', () => {
    const whole = referenceForward(dims, tensors, ids);
    const cache = referenceCache(dims);
    const parts = [ids.slice(0, 3), ids.slice(3, 4), ids.slice(4)].flatMap((part) => [
      ...referenceForward(dims, tensors, part, { cache }),
    ]);
    expect(cache.length).toBe(ids.length);
    expect(Float32Array.from(parts)).toEqual(whole);
  });

  test('firstLogits leaves out rows and changes none', () => {
    const whole = referenceForward(dims, tensors, ids);
    expect(referenceForward(dims, tensors, ids, { firstLogits: 5 })).toEqual(whole.slice(5 * dims.vocab));
  });

  test.each([
    ['bf16', [1, 1 + 2 ** -8, 1 + 3 * 2 ** -8, -1 - 2 ** -8 - 2 ** -20], [1, 1, 1 + 2 ** -6, -1 - 2 ** -7]],
    ['fp16', [1 + 2 ** -11, 1 + 3 * 2 ** -11, -2049.5, 3 * 2 ** -25], [1, 1 + 2 ** -9, -2050, 2 ** -23]],
    ['fp32', [1 + 2 ** -23, 2 ** -140, -2, 3e38], [1 + 2 ** -23, 2 ** -140, -2, 3e38]],
  ] as const)('a %s cache holds the nearest values, ties to even', (storage, values, nearest) => {
    // With one hidden element the norm gives exactly 1, so that v is the weight itself.
    const tiny = {
      ...dims,
      layers: 1,
      hidden: 1,
      ffn: 1,
      qHeads: 1,
      kvHeads: 1,
      headDim: 4,
      vocab: 1,
      normEps: 0,
    };
    const ones = (name: string) => {
      if (name.endsWith('v_proj.weight')) return Float32Array.from(values);
      return new Float32Array(/[qko]_proj|[qk]_norm/.test(name) ? 4 : 1).fill(1);
    };
    const cache = referenceCache(tiny);
    referenceForward(tiny, ones, [0], { cache, storage });
    expect(cache.values[0]).toEqual(Float32Array.from(nearest));
  });

  test('a token outside the vocabulary is refused', () => {
    expect(() => referenceForward(dims, tensors, [512])).toThrow('token id 512 is outside [0, 512)');
  });
});

describe('the reader', () => {
  const config = JSON.parse(readFileSync(join(micro, 'config.json'), 'utf8'));

  test('shards of float32 and a bfloat16 file give the same tensors', () => {
    const { tensors } = readReferenceModel(micro);
    const names = ['model.norm.weight', 'model.layers.1.mlp.up_proj.weight'];
    const folder = mkdtempSync(join(temporary, 'shards-'));
    writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
    const weightMap = Object.fromEntries(names.map((name, i) => [name, `model-${i}.safetensors`]));
    writeFileSync(join(folder, 'model.safetensors.index.json'), JSON.stringify({ weight_map: weightMap }));
    for (const name of names) writeTensor(join(folder, weightMap[name]!), name, 'F32', tensors(name));
    const sharded = readReferenceModel(folder).tensors;
    for (const name of names) expect(sharded(name)).toEqual(tensors(name));
    expect(() => sharded('lm_head.weight')).toThrow('no tensor lm_head.weight');
  });

  test('halves are widened exactly', () => {
    const folder = folderWith(config);
    const bits = Uint16Array.from([0x3c00, 0xc000, 0x7bff, 0x0001, 0x8000, 0x0400, 0x7c00, 0x3555]);
    writeTensor(join(folder, 'model.safetensors'), 'h', 'F16', bits);
    const wide = [1, -2, 65504, 2 ** -24, -0, 2 ** -14, Infinity, 0.333251953125];
    expect(readReferenceModel(folder).tensors('h')).toEqual(Float32Array.from(wide));
  });

  test('keys of transformers 4 mean what those of 5 do', () => {
    const { rope_parameters: rope, ...rest } = JSON.parse(
      readFileSync(join(root, folders[1]!, 'config.json'), 'utf8'),
    );
    const { rope_theta, ...rope_scaling } = rope;
    const folder = folderWith({ ...rest, rope_theta, rope_scaling });
    writeTensor(join(folder, 'model.safetensors'), 'h', 'F16', Uint16Array.from([0]));
    expect(readReferenceModel(folder).dims).toEqual(readReferenceModel(join(root, folders[1]!)).dims);
  });

  test.each([
    [
      { model_type: 'gpt2' },
      'config: model_type gpt2 is not one of qwen3, qwen2, llama, mistral, smollm3, phi3, granite',
    ],
    [
      { rope_parameters: { rope_type: 'dynamic' } },
      'config: rope type dynamic is not one of default, linear, llama3',
    ],
    [{ hidden_act: 'gelu' }, 'config: hidden_act is not silu'],
    [{ vocab_size: '512' }, 'config: vocab_size is not a number'],
  ])('%j is refused', (change, message) => {
    expect(() => readReferenceModel(folderWith({ ...config, ...change }))).toThrow(message);
  });

  const llama3 = {
    ...{ rope_type: 'llama3', rope_theta: 2e4, factor: 8, low_freq_factor: 1, high_freq_factor: 4 },
    original_max_position_embeddings: 64,
  };
  const yarn = { rope_type: 'yarn', rope_theta: 2e4, factor: 8, original_max_position_embeddings: 64 };
  const sliding = { use_sliding_window: true, sliding_window: 8 };
  const both = ['sliding_attention', 'full_attention'];
  const other = { architectures: null, layer_types: null };
  const factors = Array.from({ length: 32 }, (_, i) => 1 + i / 4);
  const longrope = {
    ...{ rope_type: 'longrope', rope_theta: 2e4, short_factor: factors, long_factor: [...factors].reverse() },
    original_max_position_embeddings: 64,
  };
  const [mistral, smollm3, phi3, granite] = ['mistral', 'smollm3', 'phi3', 'granite'].map((type) => ({
    ...other,
    model_type: type,
  }));
  test.each([
    {},
    { rope_parameters: { rope_type: 'default' }, rope_scaling: llama3 },
    { rope_parameters: llama3, rope_scaling: {} },
    { rope_parameters: llama3, rope_theta: 5, original_max_position_embeddings: 32 },
    { rope_parameters: null, rope_theta: 5 },
    { rope_parameters: { rope_type: 'linear', rope_theta: 5, factor: 3 } },
    { rope_parameters: yarn },
    { rope_scaling: { ...yarn, beta_fast: 20, beta_slow: 2, attention_factor: 1.5 } },
    { rope_scaling: { ...yarn, mscale: 2, mscale_all_dim: 1 } },
    { rope_scaling: { ...yarn, factor: 1, mscale: 2 } },
    { ...sliding, layer_types: null },
    { ...sliding, layer_types: null, max_window_layers: 1 },
    { ...sliding, layer_types: null, max_window_layers: 0 },
    { ...sliding, layer_types: both, max_window_layers: 1 },
    { layer_types: null, sliding_window: 8, max_window_layers: 0 },
    { ...sliding, model_type: 'llama', architectures: null, layer_types: null, max_window_layers: 0 },
    { ...mistral, sliding_window: 8 },
    { ...mistral, sliding_window: null, layer_types: both },
    { ...mistral, sliding_window: undefined, max_position_embeddings: 8192 },
    { ...smollm3, no_rope_layers: [0, 1], tie_word_embeddings: undefined },
    { ...smollm3, no_rope_layer_interval: 2, rope_parameters: undefined },
    { ...smollm3, ...sliding, no_rope_layer_interval: 1 },
    { ...smollm3, ...sliding, layer_types: both },
    { ...phi3, sliding_window: 8, layer_types: both },
    { ...phi3, sliding_window: undefined, rope_scaling: longrope, max_position_embeddings: 64 },
    { ...phi3, rope_scaling: { ...longrope, attention_factor: 1.5 } },
    { rope_scaling: longrope },
    { ...granite, embedding_multiplier: 12, residual_multiplier: 0.22, logits_scaling: 6 },
    { ...granite, attention_multiplier: 0.01, logits_scaling: 6 },
  ])('the config is read as the loader reads it, with %j', (change) => {
    const changed = { ...config, ...change };
    const folder = folderWith(changed);
    writeTensor(join(folder, 'model.safetensors'), 'h', 'F16', Uint16Array.from([0]));
    const seen = ({ kinds, pattern }: Pick<ReferenceDims, 'kinds' | 'pattern'>) =>
      [0, 1].map((layer) => {
        const { window, rope } = kinds.find(({ name }) => name === pattern[layer % pattern.length])!;
        return { window, rope };
      });
    const { kinds, pattern, ...own } = readReferenceModel(folder).dims;
    const theirs = parseDims(changed, 'm');
    expect(theirs).toMatchObject(own);
    expect(seen({ kinds, pattern })).toEqual(seen(theirs));
  });

  test('a head that differs from the embedding is no tied head', () => {
    const head = (name: string, last: number) => {
      const folder = folderWith({ ...config, tie_word_embeddings: true });
      writeTensors(folder, { 'model.embed_tokens.weight': [1, 2], [name]: [1, last] });
      return readReferenceModel(folder).dims.tiedHead;
    };
    expect([head('lm_head.weight', 2), head('lm_head.weight', 3), head('other', 3)]).toEqual([
      true,
      false,
      true,
    ]);
  });

  test('tensors have names without prefix in a model without a head, and the embedding may be stored as the head', () => {
    const folder = folderWith(config);
    writeTensors(folder, { 'norm.weight': [1, 2], 'lm_head.weight': [3, 4] });
    const { tensors } = readReferenceModel(folder);
    expect([...tensors('model.norm.weight')]).toEqual([1, 2]);
    expect([...tensors('model.embed_tokens.weight')]).toEqual([3, 4]);
  });

  test('a cut file is refused', () => {
    const folder = folderWith(config);
    writeTensor(join(folder, 'model.safetensors'), 'h', 'F32', Float32Array.from([1, 2]), 4);
    expect(() => readReferenceModel(folder).tensors('h')).toThrow(/ends at byte \d+/);
  });
});

function folderWith(config: object): string {
  const folder = mkdtempSync(join(temporary, 'model-'));
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  return folder;
}

/** Tensors of float32, each with its values. */
function writeTensors(folder: string, tensors: Readonly<Record<string, readonly number[]>>): void {
  writeSafetensors(
    join(folder, 'model.safetensors'),
    Object.fromEntries(
      Object.entries(tensors).map(([name, values]) => {
        const data = new Uint8Array(Float32Array.from(values).buffer);
        return [name, { dtype: 'F32', shape: [values.length], data }];
      }),
    ),
  );
}

function writeTensor(
  path: string,
  name: string,
  dtype: string,
  values: Float32Array | Uint16Array,
  cut = 0,
): void {
  const header = JSON.stringify({
    __metadata__: { format: 'pt' },
    [name]: { dtype, shape: [values.length], data_offsets: [0, values.byteLength] },
  });
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const data = Buffer.from(values.buffer, values.byteOffset, values.byteLength - cut);
  writeFileSync(path, Buffer.concat([length, Buffer.from(header), data]));
}
