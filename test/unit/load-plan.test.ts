import { expect, test } from 'vitest';
import type { Manifest, Slot } from '../../abi/manifest.ts';
import { notPacked } from '../../runtime/engine/arguments.ts';
import { sourceDtype } from '../../runtime/engine/bindings.ts';
import { loadPlan, randomPlan } from '../../runtime/weights/load-plan.ts';
import type { TensorEntry } from '../../runtime/weights/safetensors.ts';
import { refusalOf } from '../support/refusal.ts';

const vector = (tensor: string, columns: number): Slot => {
  return { tensor, shape: [1, columns], offset: 0, stride: columns, dtype: 'fp32' };
};
const matrix = (tensor: string, rows: number, columns: number): Slot => {
  return { tensor, shape: [rows, columns], offset: 0, stride: columns, dtype: 'bf16' };
};

const layer = 'model.layers.0';
const manifest: Manifest = {
  format: 3,
  abi: 1,
  hash: '00',
  name: 'small-cpu-fused-00',
  model: 'small',
  target: 'cpu',
  kind: 'cpu',
  plan: 'fused',
  promptPlan: null,
  dims: {
    name: 'small',
    family: 'qwen2',
    dtype: 'bf16',
    layers: 1,
    hidden: 64,
    ffn: 128,
    qHeads: 2,
    kvHeads: 1,
    headDim: 32,
    vocab: 100,
    maxPositions: 512,
    normEps: 1e-6,
    ropeTheta: 10000,
    ropeScaling: null,
    qkNorm: false,
    qkvBias: true,
    tiedHead: true,
    kinds: [{ name: 'layer', window: null, rope: true }],
    pattern: ['layer'],
  },
  passTokens: 8,
  promptTokens: 0,
  roundings: { perLayer: 0, once: 0 },
  library: 'small.so',
  libraryBytes: 1,
  librarySha256: '',
  paths: [],
  weightBytes: 100000,
  slots: [
    vector(`${layer}.input_layernorm.weight`, 64),
    matrix(`${layer}.self_attn.q_proj.weight`, 64, 64),
    vector(`${layer}.self_attn.q_proj.bias`, 64),
    matrix(`${layer}.mlp.down_proj.weight`, 64, 128),
    matrix('model.embed_tokens.weight', 100, 64),
  ],
  bytes: { weights: 100000, kvPerPosition: 128 },
  bandwidth: null,
  build: { compiler: 'g++', flags: [], recipe: '', millis: 1, resources: [] },
};

/** A checkpoint that fits the manifest, with changes. */
function makeTensors(
  changes: Record<string, Partial<TensorEntry> | undefined> = {},
): Map<string, TensorEntry> {
  const tensors = new Map<string, TensorEntry>();
  for (const [index, { tensor, shape }] of manifest.slots.entries()) {
    const stored = shape[0] === 1 ? [shape[1]] : shape;
    tensors.set(tensor, {
      file: 'w.safetensors',
      dtype: 'BF16',
      shape: stored,
      offset: 1000 * index,
      bytes: 0,
    });
  }
  const other = { file: 'w.safetensors', dtype: 'BF16', shape: [1], offset: 0, bytes: 2 };
  for (const [tensor, change] of Object.entries(changes)) {
    if (change === undefined) tensors.delete(tensor);
    else tensors.set(tensor, { ...(tensors.get(tensor) ?? other), ...change });
  }
  return tensors;
}

test('every slot has the tensor of its name as source, in the order of the slots', () => {
  const { sources, warnings } = loadPlan(manifest, new Map([...makeTensors()].reverse()));
  expect(sources.map(({ slot, offset }) => [slot, offset])).toEqual([
    [0, 0],
    [1, 1000],
    [2, 2000],
    [3, 3000],
    [4, 4000],
  ]);
  const { bf16 } = sourceDtype;
  expect(sources[3]).toEqual({
    path: 'w.safetensors',
    offset: 3000,
    slot: 3,
    dtype: bf16,
    head_rows: 0,
    seed: 0,
    mean: 0,
    scale: 0,
    packing: notPacked,
  });
  expect(warnings).toEqual([]);
});

test('the source has the dtype of the file, not that of the slot', () => {
  const { sources } = loadPlan(
    manifest,
    makeTensors({ [`${layer}.self_attn.q_proj.bias`]: { dtype: 'F16' } }),
  );
  expect(sources[2]!.dtype).toBe(sourceDtype.fp16);
});

test('matrices that are rounded on the way are named', () => {
  const tensors = makeTensors({
    [`${layer}.input_layernorm.weight`]: { dtype: 'F32' },
    [`${layer}.mlp.down_proj.weight`]: { dtype: 'F32' },
  });
  expect(loadPlan(manifest, tensors).warnings).toEqual([
    'rounded to bf16, as the library was made for it: model.layers.0.mlp.down_proj.weight',
  ]);
});

test('matrices that are quantised on the way are counted, those that are in the same blocks are not', () => {
  const dtypes = {
    'q_proj.weight': 'int8',
    'down_proj.weight': 'int4',
    'embed_tokens.weight': 'int4',
  } as const;
  const slots = manifest.slots.map((slot) => {
    const [, dtype] = Object.entries(dtypes).find(([name]) => slot.tensor.endsWith(name)) ?? [];
    return { ...slot, dtype: dtype ?? slot.dtype };
  });
  const tensors = makeTensors({ 'model.embed_tokens.weight': { dtype: 'Q4_0' } });
  expect(loadPlan({ ...manifest, slots }, tensors).warnings).toEqual([
    'quantised to int8 here: 1 of BF16; each number is rounded by at most 0.39 % of the largest of its 32',
    'quantised to int4 here: 1 of BF16; root mean square, 32 numbers are rounded by at most 6.9 % of the largest of them',
  ]);
});

test('a tied head and rotary frequencies are ignored, other extra tensors are named', () => {
  const extra = { 'lm_head.weight': {}, [`${layer}.self_attn.rotary_emb.inv_freq`]: {} };
  expect(loadPlan(manifest, makeTensors(extra)).warnings).toEqual([]);
  const lora = Object.fromEntries(['a', 'b', 'c', 'd', 'e'].map((name) => [name, {}]));
  expect(loadPlan(manifest, makeTensors({ ...extra, ...lora })).warnings).toEqual([
    'not used from the checkpoint: a, b, c and 2 more',
  ]);
});

test('lm_head.weight is not ignored when the head is its own matrix', () => {
  const untied = { ...manifest, dims: { ...manifest.dims, tiedHead: false } };
  expect(loadPlan(untied, makeTensors({ 'lm_head.weight': {} })).warnings).toEqual([
    'not used from the checkpoint: lm_head.weight',
  ]);
});

const badCheckpoints: [changes: Parameters<typeof makeTensors>[0], message: string][] = [
  [
    { [`${layer}.mlp.down_proj.weight`]: undefined },
    'w.safetensors lacks model.layers.0.mlp.down_proj.weight',
  ],
  [
    Object.fromEntries(manifest.slots.map(({ tensor }) => [tensor, undefined])),
    'the checkpoint lacks model.layers.0.input_layernorm.weight, model.layers.0.self_attn.q_proj.weight, model.layers.0.self_attn.q_proj.bias and 2 more',
  ],
  [
    { [`${layer}.mlp.down_proj.weight`]: { shape: [128, 64] } },
    'model.layers.0.mlp.down_proj.weight is [128, 64] in w.safetensors, [64, 128] is needed',
  ],
  [
    { [`${layer}.input_layernorm.weight`]: { shape: [63] } },
    'model.layers.0.input_layernorm.weight is [63] in w.safetensors, [64] is needed',
  ],
  [
    { [`${layer}.input_layernorm.weight`]: { shape: [64, 1] } },
    'model.layers.0.input_layernorm.weight is [64, 1] in w.safetensors, [64] is needed',
  ],
  [
    { [`${layer}.self_attn.q_proj.weight`]: { shape: [64, 64, 1] } },
    'model.layers.0.self_attn.q_proj.weight is [64, 64, 1] in w.safetensors, [64, 64] is needed',
  ],
  [
    { 'model.embed_tokens.weight': { dtype: 'F64' } },
    'model.embed_tokens.weight is F64 in w.safetensors, supported: BF16, F16, F32',
  ],
  [
    { 'model.embed_tokens.weight': { dtype: 'I8' } },
    'model.embed_tokens.weight is I8 in w.safetensors, supported: BF16, F16, F32',
  ],
  [
    { 'model.embed_tokens.weight': { dtype: 'F8_E4M3' } },
    'model.embed_tokens.weight is F8_E4M3 in w.safetensors, supported: BF16, F16, F32',
  ],
];

test.each(badCheckpoints)('a checkpoint with %j is refused', (changes, message) => {
  const error = refusalOf(() => loadPlan(manifest, makeTensors(changes)));
  expect(error.message).toBe(message);
  expect(error.kind).toBe('usage');
  expect(error.hint).toBe(
    'The library small-cpu-fused-00 was made for small: run it with those weights, or make one for these.',
  );
});

test('the first mismatch is the message, the others are lines of the hint', () => {
  const tensors = makeTensors({
    [`${layer}.self_attn.q_proj.weight`]: { shape: [32, 64] },
    'model.embed_tokens.weight': { dtype: 'F64' },
  });
  const error = refusalOf(() => loadPlan(manifest, tensors));
  expect([error.message, error.hint!.split('\n')[1]]).toEqual([
    'model.layers.0.self_attn.q_proj.weight is [32, 64] in w.safetensors, [64, 64] is needed',
    'also: model.embed_tokens.weight is F64 in w.safetensors, supported: BF16, F16, F32',
  ]);
});

test('random weights have the mean and spread of their kind', () => {
  const plan = randomPlan(manifest, 1).map(({ mean, scale }) => [mean, scale]);
  expect(plan).toEqual([
    [1, 0.2],
    [0, 1.3 / 8],
    [0, 0.3],
    [0, 1.3 / Math.sqrt(128)],
    [0, 0.1],
  ]);
});

test('no two random tensors share a seed, within a plan or between plans of other seeds', () => {
  const seeds = [0, 1, 2, 2 ** 32 - 1].flatMap((seed) =>
    randomPlan(manifest, seed).map((source) => source.seed),
  );
  expect(new Set(seeds).size).toBe(20);
  expect(seeds.every(Number.isSafeInteger)).toBe(true);
  expect(randomPlan(manifest, 7)).toEqual(randomPlan(manifest, 7));
});
