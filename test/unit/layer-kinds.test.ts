// Layers of named kinds: which dims are refused, what the printed code reads in each layer, and that the proofs read the same.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { estimate, explainTable, generate, makeSchedule, type Schedule } from '../../codegen/index.ts';
import { checkDims } from '../../codegen/model/check-dims.ts';
import type { ModelDims } from '../../codegen/model/dims.ts';
import { programOf } from '../../codegen/schemes/barriers/accesses.ts';
import { schemeOf } from '../../codegen/schemes/index.ts';
import { streamProgram } from '../../codegen/schemes/stream/program.ts';
import { models } from '../../configs/models.ts';
import { resolvePlan, resolveTarget } from '../../configs/resolve.ts';
import { type ReferenceDims, referenceForward } from '../../runtime/reference.ts';
import { refusalOf } from '../support/refusal.ts';
import { twoKinds } from '../support/two-kinds.ts';

const folder = mkdtempSync(join(tmpdir(), 'layer-kinds-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const tiny = models.find(({ name }) => name === 'qwen3-tiny')!;
/** Odd dims, five layers. */
const toy: ModelDims = {
  ...{ ...tiny, ...twoKinds, name: 'two-kinds', layers: 5, hidden: 100, ffn: 150 },
  ...{ qHeads: 6, kvHeads: 2, headDim: 20, vocab: 333 },
};
/** The same with everything a few elements long, for the simulators. */
const small: ModelDims = { ...toy, hidden: 6, ffn: 8, qHeads: 4, headDim: 2, vocab: 10 };

const plans = ['cooperative', 'unfused', 'stream'] as const;
const scheduleOf = async (dims: ModelDims, plan: string, target = 'h100'): Promise<Schedule> =>
  makeSchedule(dims, await resolvePlan(plan), resolveTarget(target));

describe('dims are refused', () => {
  const [window, full] = twoKinds.kinds as [ModelDims['kinds'][number], ModelDims['kinds'][number]];
  test.each([
    [{ pattern: [] }, 'pattern is empty, must name the kind of at least one layer'],
    [{ pattern: ['window', 'wide'] }, 'pattern names the kind "wide", known: window, full'],
    [{ kinds: [window, full, { ...full, name: 'window' }] }, 'kinds has two kinds of the name "window"'],
    [
      { kinds: [{ ...window, window: 0 }, full] },
      'kinds window: window is 0, must be null or a whole number from 1 to 16777216',
    ],
    [
      { kinds: [{ ...window, window: 2.5 }, full] },
      'kinds window: window is 2.5, must be null or a whole number from 1 to 16777216',
    ],
    [{ kinds: [{ ...window, rope: 1 }, full] }, 'kinds window: rope is 1, must be true or false'],
    [
      { kinds: [window, full, { ...full, name: 'a b' }] },
      'kinds has the name "a b", must be a lower-case word',
    ],
    [{ kinds: undefined }, 'kinds and pattern must be lists'],
  ])('%o', (patch, text) => {
    const error = refusalOf(() => checkDims({ ...toy, ...patch } as unknown as ModelDims));
    expect(error.message).toBe(`dims of two-kinds: ${text}`);
  });

  test('but not those of two kinds', () => {
    expect(checkDims(toy)).toBe(toy);
  });
});

describe.each(plans)('plan %s', (plan) => {
  test('no sync is missing, and every sync is needed where kinds take turns', async () => {
    const made = await scheduleOf(toy, plan);
    const scheme = schemeOf(made);
    expect(scheme.uncovered(made)).toEqual([]);
    for (const sync of made.syncs) {
      const less = { ...made, syncs: made.syncs.filter((other) => other !== sync) } as Schedule;
      expect(scheme.uncovered(less), JSON.stringify(sync.after)).not.toEqual([]);
    }
  });

  test('the simulator finds no fault where the window begins to leave positions out', async () => {
    const made = await scheduleOf(small, plan);
    // Other positions: test/compile/layer-kinds.test.ts.
    const run = { blocks: 3, warps: 2, tokens: 2, position: 4, seed: 1 };
    expect(schemeOf(made).simulate(made, run)).toEqual([]);
  });

  test('explain says what the kinds see, and counts what they read', async () => {
    const made = await scheduleOf(toy, plan);
    const table = explainTable(made, estimate(made, 100));
    expect(table.split('\n')[1]).toBe(
      'layers window, window, full and so on: window sees 5 positions, full sees all positions and is not rotated',
    );
    const attends = estimate(made, 100).stages.find((stage) => stage.cacheBytes > 0)!;
    const all = estimate(await scheduleOf({ ...toy, kinds: tiny.kinds, pattern: tiny.pattern }, plan), 100);
    // Four of five layers see four positions beside their own.
    const share = (4 * 4 + 100) / (5 * 100);
    const whole = all.stages.find((stage) => stage.name === attends.name)!;
    expect(attends.cacheBytes / whole.cacheBytes).toBeCloseTo(share);
  });
});

test('a model of one kind says nothing of kinds', async () => {
  const made = await scheduleOf(tiny, 'cooperative');
  expect(explainTable(made, estimate(made)).split('\n')[1]).toBe('');
});

/** Runs C++ and reads the numbers that it prints, a list a line. */
function numbersOf(name: string, program: string): number[][] {
  const binary = join(folder, name);
  execFileSync('g++', ['-x', 'c++', '-std=c++17', '-o', binary, '-'], { input: program });
  const lines = execFileSync(binary, { encoding: 'utf8' }).trimEnd().split('\n');
  return lines.map((one) => one.split(' ').map(Number));
}

const positions = [0, 1, 3, 4, 5, 6, 17, 100];
const printed = (text: string, pattern: RegExp) =>
  pattern.exec(text)![0].replaceAll(/DEVICE|BOTH|__\w+__/g, '');
const kindsOf = (model: string) => printed(model, /[^\n]*window_of[\s\S]*?turned_by.*\n/);
const listed = (list: readonly number[]) => `{${list.join(', ')}}`;

describe('the proofs read what the printed code reads', () => {
  test('cached positions of a part, in barriers', async () => {
    const { sources, schedule } = await generate({
      dims: toy,
      plan: await resolvePlan('cooperative'),
      target: resolveTarget('h100'),
    });
    if (schedule.scheme !== 'barriers') throw new Error('cooperative is a plan of barriers');
    const { splits } = schedule;
    const range = printed(sources['model.h']!, /[^\n]*Range positions_of[\s\S]*?\n\}/);
    const program = `#include <cstdint>
      #include <cstdio>
      #include <initializer_list>
      struct Pass { int position, tokens; };
      struct LayerWeights { int layer; };
      struct Range { int begin, end; };
      constexpr int kSplits = ${splits};
      ${kindsOf(sources['model.h']!)} ${range}
      int main() {
        for (int position : ${listed(positions)}) for (int layer = 0; layer < 5; ++layer) for (int split = 0; split < kSplits; ++split) {
          const Range r = positions_of({position, 2}, {layer}, split);
          printf("%d %d %d %d %d\\n", position, layer, split, r.begin, r.end);
        }
      }`;
    const read: number[][] = [];
    for (const position of positions) {
      const machine = { blocks: splits, tokens: 2, watched: [0, 1], position, layers: 5 };
      for (let layer = 0; layer < 5; layer++) {
        for (let split = 0; split < splits; split++) {
          // The first units are the splits of the first head, one a block.
          const touch = programOf(schedule, machine, split)
            .flatMap((event) =>
              event.kind === 'step' && event.layer === layer && event.unit === split ? event.touches : [],
            )
            .find(({ tensor, writes }) => tensor === 'cache' && !writes);
          if (touch) read.push([position, layer, split, touch.lo, touch.hi]);
        }
      }
    }
    const ranges = numbersOf('positions', program).filter(([, , , begin, end]) => begin! < end!);
    expect(read).toEqual(ranges);
    expect(read.length).toBeGreaterThan(positions.length * 5);
  });

  test('cached positions of a split, in a stream whose tiles are one position', async () => {
    const { sources, schedule } = await generate({
      dims: toy,
      plan: await resolvePlan('stream'),
      target: resolveTarget('h100'),
    });
    if (schedule.scheme !== 'stream') throw new Error('stream is a plan of a stream');
    const splits = 3;
    const made = { ...schedule, splits, splitSteps: [{ splits, from: 0 }] };
    const block = readFileSync(join(import.meta.dirname, '../../templates/cuda/lib/block.cuh'), 'utf8');
    const program = `#include <cstdio>
      #include <initializer_list>
      struct Range { int begin, end; };
      constexpr int kKvTile = 1;
      int divide_up(int a, int b) { return (a + b - 1) / b; }
      ${printed(block, /[^\n]*int dealt\(int n, int i, int parts\) \{.*\}/)}
      ${kindsOf(sources['model.h']!)}
      ${printed(sources['stream/splits.cuh']!, /[^\n]*Range tiles_of[\s\S]*?\n\}/)}
      int main() {
        for (int position : ${listed(positions)}) for (int layer = 0; layer < 5; ++layer) for (int split = 0; split < ${splits}; ++split) {
          const Range r = tiles_of(layer, position, split, ${splits});
          printf("%d %d %d %d %d\\n", position, layer, split, r.begin, r.end);
        }
      }`;
    const read: number[][] = [];
    for (const position of positions) {
      const launch = {
        blocks: 2 * splits,
        tileRows: 8,
        warps: 1,
        tokens: 1,
        position,
        passes: 1,
        greedy: true,
      };
      for (let layer = 0; layer < 5; layer++) {
        for (let split = 0; split < splits; split++) {
          const loads = streamProgram(made, launch, split).producer.flatMap((event) =>
            event.kind === 'load' && event.place.layer === layer ? [event] : [],
          );
          if (loads.length > 0) read.push([position, layer, split, loads[0]!.lo, loads.at(-1)!.hi]);
        }
      }
    }
    const ranges = numbersOf('tiles', program).filter(([, , , begin, end]) => begin! < end!);
    expect(read).toEqual(ranges);
    expect(read.length).toBeGreaterThan(positions.length * 5);
  });
});

describe('the reference', () => {
  const one = (kind: Partial<ModelDims['kinds'][number]>): ReferenceDims => ({
    ...{ ...small, layers: 1, vocab: 10 },
    kinds: [{ name: 'layer', window: null, rope: true, ...kind }],
    pattern: ['layer'],
  });
  /** Different numbers for every tensor, of the length that its name asks for. */
  const tensors = (name: string): Float32Array => {
    const { hidden, ffn, qHeads, kvHeads, headDim, vocab } = small;
    const rows = /q_proj/.test(name)
      ? qHeads * headDim
      : /[kv]_proj/.test(name)
        ? kvHeads * headDim
        : /gate|up_proj/.test(name)
          ? ffn
          : /embed/.test(name)
            ? vocab
            : /o_proj|down_proj/.test(name)
              ? hidden
              : 1;
    const columns = /o_proj/.test(name)
      ? qHeads * headDim
      : /down/.test(name)
        ? ffn
        : /[qk]_norm/.test(name)
          ? headDim
          : hidden;
    let seed = [...name].reduce((sum, letter) => sum * 31 + letter.charCodeAt(0), 7) % 1000;
    return Float32Array.from({ length: rows * columns }, () => {
      seed = (seed * 137 + 71) % 1009;
      return rows === 1 ? 1 : seed / 500 - 1;
    });
  };
  const last = (dims: ReferenceDims, ids: readonly number[]) =>
    referenceForward(dims, tensors, ids, { firstLogits: ids.length - 1 });

  test('of one layer sees as many positions as its window has, and no more', () => {
    const dims = one({ window: 3 });
    const plain = last(dims, [1, 2, 3, 4, 5]);
    expect(last(dims, [9, 8, 3, 4, 5])).toEqual(plain);
    expect(last(dims, [1, 2, 9, 4, 5])).not.toEqual(plain);
    expect(last(one({}), [9, 2, 3, 4, 5])).not.toEqual(last(one({}), [1, 2, 3, 4, 5]));
  });

  test('of one layer that does not rotate does not see in which order positions came', () => {
    const close = (a: Float32Array, b: Float32Array) =>
      Math.max(...a.map((x, i) => Math.abs(x - b[i]!))) < 1e-5;
    const [ids, turned] = [
      [1, 2, 3, 4, 5],
      [4, 3, 2, 1, 5],
    ];
    const still = one({ rope: false });
    expect(close(last(still, ids), last(still, turned))).toBe(true);
    expect(close(last(one({}), ids), last(one({}), turned))).toBe(false);
  });

  test('takes the kinds of the pattern in turn', () => {
    const dims = { ...one({}), layers: 2, kinds: twoKinds.kinds, pattern: ['full', 'full'] };
    const ids = [1, 2, 3, 4, 5, 6, 7, 8];
    expect(last({ ...dims, pattern: ['full'] }, ids)).toEqual(last(dims, ids));
    expect(last({ ...dims, pattern: ['full', 'window'] }, ids)).not.toEqual(last(dims, ids));
  });
});
