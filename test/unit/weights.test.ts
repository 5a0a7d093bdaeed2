// Formats of matrices: what is asked for, what a GGUF file has, where they are refused, and what they come to in bytes.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { type FusionPlan, generate, makeSchedule } from '../../codegen/index.ts';
import { checkDims } from '../../codegen/model/check-dims.ts';
import type { ModelDims } from '../../codegen/model/dims.ts';
import type { WeightName } from '../../codegen/model/formats.ts';
import { decoderGraph } from '../../codegen/model/graph.ts';
import { packWeights, slotsOf, weightBytesOf } from '../../codegen/model/packing.ts';
import { readModel } from '../../codegen/model/read-config.ts';
import { formatOf, formatsText } from '../../codegen/model/weights.ts';
import { checkPlan } from '../../codegen/plan/check.ts';
import { settleWeights } from '../../codegen/settle-weights.ts';
import { canRunFormats, choosePlans } from '../../configs/default-plan.ts';
import { resolveModel, resolvePlan, resolvePromptPlan, resolveTarget } from '../../configs/resolve.ts';
import { blocksOf } from '../../runtime/reference/blocks.ts';
import { ggufOf, type MatrixType, writeGguf } from '../support/gguf.ts';
import { refusalOf } from '../support/refusal.ts';

const [cpu, h100] = [resolveTarget('cpu'), resolveTarget('h100')];
const { dims } = resolveModel('qwen3-0.6b');
const folder = mkdtempSync(join(tmpdir(), 'weights-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const llama = resolveModel(join(import.meta.dirname, '../fixtures/llama3-micro')).directory!;
const tied = resolveModel(join(import.meta.dirname, '../fixtures/qwen3-micro')).directory!;
/** Dims of a file whose embedding, layers and head have these types. */
function ofFile(embedding: MatrixType, layers: MatrixType, head: MatrixType): ModelDims {
  const typeOf = (name: string) =>
    name.startsWith('token_embd') ? embedding : name.startsWith('output') ? head : layers;
  return readModel(writeGguf(join(folder, 'mixed.gguf'), ggufOf(llama, typeOf))).dims;
}

test('int8 is for all matrices; int4 and fp8 for the layers, with embedding and head in int8', () => {
  const text = (asked: WeightName | undefined) => formatsText(settleWeights(dims, asked));
  expect(text(undefined)).toBe('bf16');
  expect(text('plain')).toBe('bf16');
  expect(text('int8')).toBe('int8');
  expect(text('int4')).toBe('int4, embedding and head int8');
  expect(text('fp8')).toBe('fp8, embedding and head int8');
  expect(text('mixed')).toBe('int4, query, key, value, embedding and head int8');
});

test.each<[MatrixType, MatrixType, MatrixType, string, string]>([
  ['Q8_0', 'Q8_0', 'Q8_0', 'int8', 'int4, embedding and head int8'],
  ['Q4_0', 'Q4_0', 'Q4_0', 'int4', 'int4'],
  ['Q4_0', 'Q4_0', 'Q5_1', 'int4, head int8', 'int4, head int8'],
  ['Q8_0', 'Q4_0', 'F16', 'int4, embedding int8, head bf16', 'int4, embedding and head int8'],
  ['Q5_0', 'Q4_0', 'Q5_1', 'int4, embedding and head int8', 'int4, embedding and head int8'],
  ['Q4_1', 'Q8_0', 'BF16', 'int8, embedding int4-asym, head bf16', 'int4, embedding int4-asym, head int8'],
  ['Q5_1', 'Q4_1', 'Q8_0', 'int4-asym, embedding and head int8', 'int4, embedding and head int8'],
  ['Q8_0', 'Q5_1', 'Q8_0', 'int8', 'int4, embedding and head int8'],
  ['BF16', 'BF16', 'BF16', 'bf16', 'int4, embedding and head int8'],
])('a file of %s, %s and %s is %s', (embedding, layers, head, text, asInt4) => {
  const read = ofFile(embedding, layers, head);
  expect(formatsText(settleWeights(read, undefined))).toBe(text);
  expect(formatsText(settleWeights(read, 'int4'))).toBe(asInt4);
  // Where there are no kernels for blocks, they are numbers, as they were.
  expect(formatsText(settleWeights(read, undefined, () => false))).toBe(read.dtype);
});

test.each<[string, Readonly<Record<string, MatrixType>>, string]>([
  ['finer values', { attn_v: 'Q5_0' }, 'int4, query, key, value, embedding and head int8'],
  ['finer last matrices of one layer', { 'blk.1.ffn_down': 'Q8_0' }, 'int4, down, embedding and head int8'],
  [
    'minima in one matrix of three',
    { ffn_up: 'Q4_1' },
    'int4-asym, query, key, value and down int4, embedding and head int8',
  ],
  ['a matrix of numbers', { 'blk.0.attn_k': 'F16' }, 'int4, query, key, value, embedding and head int8'],
  ['last matrices of numbers', { ffn_down: 'BF16' }, 'int4, down, embedding and head int8'],
  [
    'a matrix of numbers among those of most',
    { 'blk.0.ffn_up': 'F32' },
    'int8, query, key, value and down int4',
  ],
  ['numbers in each product', { attn_k: 'F16', ffn_up: 'F16', ffn_down: 'F16' }, 'bf16'],
  ['numbers beside 8 bits', { attn: 'F16', ffn: 'Q8_0' }, 'bf16'],
])('a file of Q4_0 with %s', (_, others, text) => {
  const typeOf = (name: string) =>
    name.startsWith('token_embd')
      ? 'Q5_1'
      : (Object.entries(others).find(([part]) => name.includes(part))?.[1] ?? 'Q4_0');
  const read = readModel(writeGguf(join(folder, 'parts.gguf'), ggufOf(tied, typeOf))).dims;
  expect(formatsText(read)).toBe(text);
  const fields = { q: 'qkv', o: 'o', up: 'gate_up', down: 'down' } as const;
  for (const [part, field] of Object.entries(fields)) {
    const tensor = `model.layers.0.${part === 'q' || part === 'o' ? 'self_attn' : 'mlp'}.${part}_proj.weight`;
    expect(blocksOf(read.weights, tensor)).toBe(read.weights ? formatOf(read, field) : null);
  }
});

test('generated code names the flag for its formats, and none where only the file has them', async () => {
  const plan = await resolvePlan('cooperative');
  const commandOf = async (formats: ModelDims['weights']) => {
    const { weights: _, ...plain } = dims;
    const { sources } = await generate({
      dims: { ...plain, ...(formats && { weights: formats }) },
      plan,
      target: cpu,
    });
    return /gen --model \S+( --weights \S+)?/.exec(sources['model.h']!)?.[1]?.trim();
  };
  const outer = { embedding: 'int8', head: 'int8' } as const;
  expect(await commandOf({ layers: 'int4', ...outer })).toBe('--weights int4');
  expect(await commandOf({ layers: 'int4', qkv: 'int8', ...outer })).toBe('--weights mixed');
  expect(await commandOf({ layers: 'int4-asym', qkv: 'int8', down: 'int8', ...outer })).toBeUndefined();
  expect(await commandOf({ layers: 'int4', qkv: 'int8', down: 'int8', ...outer })).toBeUndefined();
  expect(await commandOf({ layers: 'int4', embedding: 'bf16', head: 'bf16' })).toBeUndefined();
  expect(await commandOf(undefined)).toBeUndefined();
});

test('a GPU multiplies blocks in streams alone; other plans are refused by name', async () => {
  const quantised = settleWeights(dims, 'int4');
  const graph = decoderGraph(quantised);
  const [cooperative, stream, prefill] = await Promise.all([
    resolvePlan('cooperative'),
    resolvePlan('stream'),
    resolvePromptPlan('prefill'),
  ]);
  const found = (plan: FusionPlan) =>
    checkPlan(graph, plan, h100).map(({ rule, why, legal }) => [rule, why, ...legal].join('; '));
  expect(found(cooperative)).toEqual([
    'blocks-at-barriers; the matrices of qwen3-0.6b are int4, and kernels of h100 with barriers take plain numbers; stream()',
  ]);
  expect(found(prefill)).toEqual([]);
  const { sources } = await generate({ dims: quantised, plan: stream, target: h100 });
  expect(sources['model.h']).toContain('using Matrix = int4_block;');
  expect(sources['model.h']).toContain('using Cache = bf16;');
  expect(sources['kernel.cu']).toContain('Stage::head, kLmHeadAt, int8_block>;');
  expect(sources['kernel.cu']).toContain('Stage::qkv, kQkvProjAt>;');
});

test('a file in blocks keeps them where its plan can run them, and gets a stream', async () => {
  const [a100, cooperative, stream, prefill] = [
    resolveTarget('a100'),
    await resolvePlan('cooperative'),
    await resolvePlan('stream'),
    await resolvePromptPlan('prefill'),
  ];
  const quantised = settleWeights(dims, 'int8');
  const odd = { ...quantised, headDim: 127 };
  expect(canRunFormats(quantised, { target: cpu, plan: cooperative })).toBe(true);
  expect(canRunFormats(quantised, { target: h100 })).toBe(true);
  expect(canRunFormats(quantised, { target: h100, plan: stream })).toBe(true);
  expect(canRunFormats(quantised, { target: h100, plan: cooperative })).toBe(false);
  expect(canRunFormats(quantised, { target: h100, promptPlan: prefill })).toBe(true);
  expect(canRunFormats(odd, { target: h100 })).toBe(false);
  const chosen = [h100, a100].map((target) => choosePlans(quantised, target, null));
  expect(chosen.map(({ plan, promptPlan }) => [plan.name, promptPlan?.name])).toEqual([
    ['stream', 'prefill'],
    ['stream', undefined],
  ]);
  expect(choosePlans(dims, a100, null).plan.name).not.toBe('stream');
});

test('where no plan with barriers fits a GPU without a copy engine, a stream that does is the plan', async () => {
  const { io, written } = memoryIo();
  expect(await run(['explain', 'qwen3-0.6b', '--target', 'a100', '--cache', 'int8'], io)).toBe(0);
  expect(written.err).toContain('plan stream: no plan with barriers fits qwen3-0.6b on a100');
  const wide = { ...dims, hidden: 8192, ffn: 40_000 };
  const chosen = [wide, { ...wide, ffn: 90_000 }].map((one) => choosePlans(one, resolveTarget('a100'), null));
  expect(chosen.map(({ plan }) => plan.name)).toEqual(['stream', 'cooperative']);
  expect(chosen[1]!.planReason).toBe('a100 has no copy engine, and of the others none fits');
});

test('cells and slots of a stream are as large as their codes and scales', async () => {
  const plan = await resolvePlan('stream');
  const made = (asked: WeightName, weights = settleWeights(dims, asked).weights) => {
    const { weights: _, ...plain } = dims;
    const schedule = makeSchedule({ ...plain, ...(weights && { weights }) }, plan, h100);
    if (schedule.scheme !== 'stream') throw new Error('a stream');
    const { products, ring, streamBytes } = schedule;
    const bytes = (op: string) => {
      const product = products.find((one) => one.op === op)!;
      return product.tileBytes / product.cells;
    };
    return [
      bytes('qkv_proj'),
      bytes('lm_head'),
      ring.slotBytes / 1024,
      streamBytes / weightBytesOf(schedule.dims),
    ];
  };
  expect(made('plain')).toEqual([512, 512, 16, 1]);
  expect(made('int8')).toEqual([272, 272, 17, 1]);
  expect(made('int4')).toEqual([144, 272, 18, 1]);
  expect(made('int4-asym')).toEqual([160, 272, 20, 1]);
  const mixture = {
    layers: 'int4-asym',
    qkv: 'int8',
    down: 'int8',
    embedding: 'int8',
    head: 'int8',
  } as const;
  expect(made('int4-asym', mixture)).toEqual([272, 272, 20, 1]);
  expect(made('fp8')).toEqual(made('int8'));
});

test('the command line names the formats that there are', async () => {
  const { io, written } = memoryIo();
  const code = await run(['explain', 'qwen3-tiny', '--target', 'cpu', '--weights', 'int5'], io);
  expect([code, written.err]).toEqual([2, expect.stringContaining("--weights is 'int5'")]);
  expect(written.err).toContain('must be plain, int8, int4, int4-asym, fp8, mixed');
  expect(written.err).toContain('for example: --weights int8');
  const right = memoryIo();
  await run(['explain', 'qwen3-tiny', '--target', 'cpu', '--weights', 'int4'], right.io);
  expect(right.written.out).toContain('6 layers, int4, embedding and head int8, up to 64 tokens');
});

test('dims name formats that there are', () => {
  const weights = { layers: 'int8', embedding: 'int5', head: 'int8' } as unknown as ModelDims['weights'] & {};
  expect(refusalOf(() => checkDims({ ...dims, weights })).message).toContain('weights.embedding');
});

test('numbers beside blocks in a layer are refused', () => {
  const outer = { embedding: 'bf16', head: 'bf16' } as const;
  for (const weights of [
    { layers: 'int4', qkv: 'bf16', ...outer },
    { layers: 'bf16', down: 'int8', ...outer },
  ] as const)
    expect(refusalOf(() => checkDims({ ...dims, weights })).message).toContain(
      'numbers beside blocks in a layer',
    );
  checkDims({ ...dims, weights: { layers: 'int4', qkv: 'int8', ...outer } });
});

test('blocks are 34 and 18 bytes for 32 numbers, and a schedule counts them', async () => {
  const numbers = 28 * 1024 * (2 * 2048 + 2 * 1024 + 3 * 3072);
  const head = 151936 * 1024;
  const bytes = (asked: WeightName) => weightBytesOf(settleWeights(dims, asked));
  expect(bytes('plain')).toBe(2 * (numbers + head));
  expect(bytes('int8')).toBe(((numbers + head) / 32) * 34);
  expect(bytes('fp8')).toBe(bytes('int8'));
  expect(bytes('int4')).toBe((numbers / 32) * 18 + (head / 32) * 34);
  const qkv = 28 * 1024 * (2048 + 2 * 1024);
  expect(bytes('mixed')).toBe(((numbers - qkv) / 32) * 18 + ((head + qkv) / 32) * 34);
});

test('slots of one matrix follow each other, block by block', () => {
  const quantised = settleWeights(dims, 'int4');
  const slots = slotsOf(quantised, packWeights(quantised));
  const slot = (name: string) => slots.find(({ tensor }) => tensor.endsWith(name))!;
  const [q, k, gate, up] = ['q_proj', 'k_proj', 'gate_proj', 'up_proj'].map((name) => slot(`${name}.weight`));
  expect(k!.offset - q!.offset).toBe((2048 * 1024 * 18) / 32);
  expect(up!.offset - gate!.offset).toBe((1024 * 18) / 32);
  expect([gate!.stride, gate!.dtype, slot('embed_tokens.weight').dtype]).toEqual([2048, 'int4', 'int8']);
  expect(slot('input_layernorm.weight').dtype).toBe('fp32');
});

test('a matrix of one row is a matrix: padded, and packed into a stream', async () => {
  const narrow = { ...dims, name: 'narrow', hidden: 1, vocab: 1, tiedHead: false };
  const slots = slotsOf(narrow, packWeights(narrow));
  const strideOf = (name: string) => slots.find(({ tensor }) => tensor.endsWith(name))!.stride;
  expect([strideOf('o_proj.weight'), strideOf('lm_head.weight'), strideOf('q_norm.weight')]).toEqual([
    2048, 32, 128,
  ]);
  const cooperative = await resolvePlan('cooperative');
  const { sources } = await generate({ dims: narrow, plan: cooperative, target: cpu });
  expect(sources['model.h']).toContain('const Matrix* head;');
  const { packing } = makeSchedule(narrow, await resolvePlan('stream'), h100);
  expect(packing.staging!.layer.map(({ name }) => name)).toEqual(['qkv', 'o', 'gate_up', 'down']);
  expect(packing.staging!.model.map(({ name }) => name)).toEqual(['head']);
});

test('mixed is int8 for query, key and value, in slots as for the oracle', () => {
  const mixed = settleWeights(dims, 'mixed');
  const slots = slotsOf(mixed, packWeights(mixed)).filter(({ shape }) => shape[0] > 1);
  const eights = slots.filter(({ dtype }) => dtype === 'int8').map(({ tensor }) => tensor);
  expect(eights.every((name) => /[qkv]_proj|embed_tokens/.test(name))).toBe(true);
  expect(eights.length).toBe(3 * dims.layers + 1);
  for (const { tensor, dtype } of slots) expect(blocksOf(mixed.weights, tensor), tensor).toBe(dtype);
});

test('a head in another format than the layers has inputs in its own order', async () => {
  const plan = await resolvePlan('cooperative');
  const sourcesOf = async (one: ModelDims) => (await generate({ dims: one, plan, target: cpu })).sources;
  const mixed = await sourcesOf(ofFile('Q4_0', 'Q4_0', 'BF16'));
  expect(mixed['model.h']).toContain('using Matrix = int4_block;');
  expect(mixed['model.h']).toContain('using Cache = bf16;');
  expect(mixed['model.h']).toContain('const bf16* head;');
  expect(mixed['kernel.cpp']).toMatch(/(norm|gather)_input<kHidden, bf16>\(/);
  const same = await sourcesOf(settleWeights(dims, 'int8'));
  expect(same['kernel.cpp']).not.toMatch(/_input<\w+, \w+>\(/);
});
