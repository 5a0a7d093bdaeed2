// Layers of two kinds: the cached positions that the printed code reads are those that the proofs read.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { generate } from '../../codegen/index.ts';
import type { ModelDims } from '../../codegen/model/dims.ts';
import { programOf } from '../../codegen/schemes/barriers/accesses.ts';
import { streamProgram } from '../../codegen/schemes/stream/program.ts';
import { models } from '../../configs/models.ts';
import { resolvePlan, resolveTarget } from '../../configs/resolve.ts';
import { twoKinds } from '../support/two-kinds.ts';

const folder = mkdtempSync(join(tmpdir(), 'kinds-printed-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Odd dims, five layers. */
const toy: ModelDims = {
  ...{ ...models.find(({ name }) => name === 'qwen3-tiny')!, ...twoKinds, name: 'two-kinds', layers: 5 },
  ...{ hidden: 100, ffn: 150, qHeads: 6, kvHeads: 2, headDim: 20, vocab: 333 },
};

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
      ${printed(sources['stream/shares.cuh']!, /[^\n]*Range tiles_of[\s\S]*?\n\}/)}
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
