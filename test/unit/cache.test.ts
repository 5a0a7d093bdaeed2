// Formats of the KV cache: what is asked for, where it is refused, what it makes of a kernel, and its bytes.
import { expect, test } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { estimate, generate } from '../../codegen/index.ts';
import { checkDims } from '../../codegen/model/check-dims.ts';
import type { ModelDims } from '../../codegen/model/dims.ts';
import { cacheRowBytes } from '../../codegen/model/weights.ts';
import { settleCache } from '../../codegen/settle-cache.ts';
import { settleWeights } from '../../codegen/settle-weights.ts';
import { resolveModel, resolvePlan, resolveTarget } from '../../configs/resolve.ts';
import { failureOf, refusalOf } from '../support/refusal.ts';
import { faultsOfTiles, unmissedTiles } from '../support/tiles.ts';

const { dims } = resolveModel('qwen3-0.6b');
const int8 = settleCache(dims, 'int8');
const kernelOf = async (of: ModelDims, plan: string, target: string) =>
  generate({ dims: of, plan: await resolvePlan(plan), target: resolveTarget(target) });

test('plain is what the dims say without a wish; a format that is none is refused', () => {
  expect(settleCache(dims, undefined)).toBe(dims);
  expect(settleCache(int8, 'plain')).toEqual(dims);
  expect(settleCache(int8, undefined).cache).toBe('int8');
  const { kind, message, hint } = refusalOf(() => settleCache(dims, 'int4' as 'int8'));
  expect([kind, message, hint]).toEqual([
    'usage',
    "there is no format 'int4' of a KV cache",
    'known: plain, int8',
  ]);
  expect(checkDims(int8)).toBe(int8);
  expect(refusalOf(() => checkDims({ ...dims, cache: 'fp7' as 'int8' })).message).toContain(
    'cache is "fp7", supported: int8',
  );
});

test('kernels with barriers on a GPU refuse it by name, and say what takes it', async () => {
  const { message } = await failureOf(kernelOf(int8, 'cooperative', 'h100'));
  expect(message).toContain(
    'the KV cache of qwen3-0.6b is int8, and kernels of h100 with barriers keep it in bf16',
  );
  expect(message).toContain('stream()');
  const { io, written } = memoryIo();
  const asked = ['--model', 'qwen3-tiny', '--target', 'h100', '--cache', 'int8', '--plan', 'unfused'];
  expect(await run(['explain', ...asked], io)).toBe(2);
  expect(written.err).toContain('is int8, and kernels of h100 with barriers keep it in bf16');
});

test('a stream has a position of codes and scales, and tiles read numbers that are made of it', async () => {
  const of = async (dims: ModelDims, target: string) => {
    const [plan, promptPlan] = [await resolvePlan('stream'), await resolvePlan('prefill')];
    return generate({ dims, plan, promptPlan, target: resolveTarget(target) });
  };
  const [plain, coded] = [(await of(dims, 'h100')).sources, (await of(int8, 'h100')).sources];
  expect(coded['model.h']).toContain('using Cache = int8_t;');
  expect(coded['model.h']).toContain('using Wire = bf16;');
  expect(coded['model.h']).toContain('kPositionSize = 2 * kHeadPad + 16;');
  expect(plain['model.h']).toContain('kPositionSize = 2 * kHeadPad;');
  expect(coded['prompt.cu']).toContain('read_cache(b, b.args.positions, layer.w.cache, layer.number)');
  expect(plain['prompt.cu']).not.toContain('read_cache');
  expect(plain['prompt.h']).not.toContain('positions;');
});

test('blocks of a prompt with it race nowhere, and its barriers are needed', async () => {
  const [plan, target] = [await resolvePlan('prefill'), resolveTarget('h100')];
  expect(faultsOfTiles(int8, plan, target)).toEqual([]);
  expect(unmissedTiles(int8, plan, target).unmissed).toEqual([]);
});

test('a kernel with it has another name, another hash and other rows; without it nothing is said of it', async () => {
  const [plain, other, both] = await Promise.all(
    [dims, int8, settleWeights(int8, 'int4')].map((one) => kernelOf(one, 'cooperative', 'cpu')),
  );
  expect(other!.name).toBe('qwen3-0.6b-cache-int8-cpu-cooperative');
  expect(both!.name).toBe('qwen3-0.6b-int4-cache-int8-cpu-cooperative');
  expect(new Set([plain, other, both].map((kernel) => kernel!.hash)).size).toBe(3);
  const [without, with8] = [plain!.sources['model.h']!, other!.sources['model.h']!];
  expect(with8).toContain('gen --model qwen3-0.6b --cache int8 --target cpu');
  expect(with8).toContain('using Cache = scaled_row<int8_t, kHeadDim>;');
  expect(with8).toContain('+ position) * 2;');
  expect(without).toContain('using Cache = bf16;');
  expect(without).toContain('+ position) * 2 * kHeadDim;');
  expect(without).not.toContain('--cache');
});

test('a position is a scale of four bytes and a byte for each number, twice for each head', () => {
  const bytes = (headDim: number) => 2 * cacheRowBytes({ ...int8, headDim });
  expect([64, 80, 96, 128].map(bytes)).toEqual([136, 168, 200, 264]);
  // Scales lie at multiples of four.
  expect(bytes(10)).toBe(32);
  expect(cacheRowBytes(dims) / cacheRowBytes(int8)).toBeCloseTo(256 / 132, 12);
});

test('what a position is said to cost are its bytes in the cache of that kernel, with what pads them', async () => {
  const costs = async (of: ModelDims, plan: string, target: string) =>
    estimate((await kernelOf(of, plan, target)).schedule).bytes.kvPerPosition;
  const heads = dims.layers * dims.kvHeads;
  // Scales of a stream take a piece of 16 bytes, and rows are padded to 32 numbers.
  expect(await costs(int8, 'stream', 'h100')).toBe(heads * (2 * 128 + 16));
  expect(await costs({ ...dims, headDim: 80 }, 'stream', 'h100')).toBe(heads * 2 * 96 * 2);
  expect(await costs({ ...dims, headDim: 80 }, 'cooperative', 'h100')).toBe(heads * 2 * 80 * 2);
  expect(await costs(int8, 'cooperative', 'cpu')).toBe(heads * 2 * 132);
});

test('gen explain says so', async () => {
  const ofGpu = memoryIo();
  const asked = ['qwen3-0.6b', '--target', 'h100', '--cache', 'int8', '--prompt', '2000'];
  expect(await run(['explain', ...asked], ofGpu.io)).toBe(0);
  expect(ofGpu.written.out).toContain(
    'the cache of a layer becomes numbers in front of attention, in 4.1 kB for every position of the context',
  );
  // Two scales of a stream take 16 bytes, those of a CPU 8.
  expect(ofGpu.written.out.match(/adds .* of KV cache/g)).toEqual([
    'adds 60.9 kB of KV cache',
    'adds 60.9 kB of KV cache',
  ]);
  const { io, written } = memoryIo();
  expect(await run(['explain', 'qwen3-0.6b', '--target', 'cpu', '--cache', 'int8'], io)).toBe(0);
  expect(written.out).toContain('28 layers, bf16, KV cache int8, up to 64 tokens');
  expect(written.out).toContain('adds 59.1 kB of KV cache');
});
