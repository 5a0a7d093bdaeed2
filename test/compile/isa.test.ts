// The instruction-set paths of one library against each other, with the flags that ship: all are compiled, those that this CPU lacks are refused by name.
import { beforeAll, expect, test } from 'vitest';
import { pathsHere } from '../../codegen/build/cpu-paths.ts';
import { type BuiltKernel, buildKernel, openEngine } from '../../load.ts';
import { Engine } from '../../runtime/engine/engine.ts';
import type { Isa } from '../../runtime/engine/options.ts';
import { tolerance } from '../../runtime/verify/tolerance.ts';
import { loadPlan } from '../../runtime/weights/load-plan.ts';
import { readTensors } from '../../runtime/weights/safetensors.ts';
import { useShippedFlags } from '../support/quick-compiler.ts';

let built: BuiltKernel;
beforeAll(async () => {
  useShippedFlags();
  built = await buildKernel({ model: 'qwen3-tiny', target: 'cpu', ship: true });
});

const ids = [1, 284, 201, 335, 342, 267, 504, 729, 411, 33, 2, 201, 1, 288, 201];

async function logitsOf(isa: Isa): Promise<Float32Array> {
  const engine = await Engine.open(built.library, built.manifest, { context: 64, isa });
  try {
    await engine.load(loadPlan(built.manifest, readTensors(built.modelDirectory!)).sources);
    return await engine.score(ids, 0);
  } finally {
    engine.close();
  }
}

/** 6 layers of sums over at most 768 terms, each within sqrt(n) 2^-24 of its magnitude; K and V are rounded to bf16, and a sum
 *  that crosses a rounding boundary moves by 2^-8: logits of rms 5 stay within 5 * 2^-8 * sqrt(12). */
const sumBound = 5 * 2 ** -8 * Math.sqrt(12);

/** Where pairs of bf16 are multiplied, so are the inputs of four products and the queries, and the head's input. */
const pairBound = (logits: Float32Array): number =>
  tolerance({
    ...{ dims: built.dims, dtype: 'bf16', positions: ids.length, counted: logits.length, decimals: null },
    logitRms: Math.sqrt(logits.reduce((sum, value) => sum + value ** 2, 0) / logits.length),
    extraRoundings: { perLayer: 5, once: 1 },
  }).logit;

test('every path of this CPU gives the same logits, up to the order of float32 sums and its roundings', async () => {
  const plain = await logitsOf('generic');
  const paths: Isa[] = ['avx2', 'avx512', 'avx512bf16'];
  let compared = 0;
  for (const isa of paths) {
    const other = await logitsOf(isa).catch((error: Error) => error);
    if (other instanceof Error) {
      expect(other.message).toContain('this CPU lacks it');
      console.warn(`not compared: ${other.message}`);
      continue;
    }
    const worst = Math.max(...plain.map((value, i) => Math.abs(value - other[i]!)));
    expect(worst, isa).toBeLessThan(isa === 'avx512bf16' ? pairBound(plain) : sumBound);
    compared++;
  }
  expect(compared).toBeGreaterThan(process.arch === 'x64' ? 0 : -1);
});

test('the best path of this machine is the one that the library takes, and the manifest counts its roundings', async () => {
  const { engine } = await openEngine(built, { context: 64 });
  const { device } = engine;
  engine.close();
  const best = pathsHere()?.at(-1);
  expect(device.split(', ')[1]).toBe(best?.title);
  expect(built.manifest.roundings).toEqual(best?.pairs ? { perLayer: 5, once: 1 } : { perLayer: 0, once: 0 });
});

test('one token at a time, the path that multiplies pairs rounds nothing: the bits of AVX-512', async () => {
  const alone = async (isa: Isa) => {
    const engine = await Engine.open(built.library, built.manifest, { context: 64, isa });
    try {
      await engine.load(loadPlan(built.manifest, readTensors(built.modelDirectory!)).sources);
      const rows: Float32Array[] = [];
      for (const id of ids) rows.push(await engine.score([id], 0));
      return rows;
    } finally {
      engine.close();
    }
  };
  if (!pathsHere()?.some(({ pairs }) => pairs)) {
    console.warn('not compared: this CPU lacks AVX-512-BF16');
    return;
  }
  expect(await alone('avx512bf16')).toEqual(await alone('avx512'));
});

test('one thread and several give the same bits', async () => {
  const run = async (threads: number) => {
    const { engine } = await openEngine(built, { context: 64, threads });
    const logits = await engine.score(ids, 0);
    engine.close();
    return logits;
  };
  const [one, two, five] = [await run(1), await run(2), await run(5)];
  expect(two).toEqual(one);
  expect(five).toEqual(one);
});
