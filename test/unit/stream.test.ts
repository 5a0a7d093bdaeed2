// The layout of the weight stream, for dims that nothing divides: who has which tiles, and that it fits.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ModelDims } from '../../codegen/model/dims.ts';
import { decoderGraph } from '../../codegen/model/graph.ts';
import { checkPlan, isLegal } from '../../codegen/plan/check.ts';
import { withScheme } from '../../codegen/plan/edits.ts';
import { byContext, type StreamScheme, stream as streamed } from '../../codegen/plan/plan.ts';
import type { Target } from '../../codegen/schedule/target.ts';
import { lowerStream } from '../../codegen/schemes/stream/lower.ts';
import type { StreamSchedule } from '../../codegen/schemes/stream/schedule.ts';
import { cellOf, streamStaticBytes, streamWarps, tilesOf } from '../../codegen/schemes/stream/sizes.ts';
import { models } from '../../configs/models.ts';
import builtIn from '../../configs/plans/stream.ts';
import { targetNamed, targets } from '../../configs/targets.ts';

const targetOf = (name: string): Target => targetNamed(name)!;
const qwen = models.find((model) => model.name === 'qwen3-0.6b')!;
type Options = Partial<Omit<StreamScheme, 'kind'>>;
const planOf = (options: Options) =>
  withScheme(builtIn, streamed({ slotBytes: 16384, splits: byContext({ 1: 0, 16: 128 }), ...options }));

/** The stages of the built-in plan as a stream, or null where it is not legal. */
function schedule(dims: ModelDims, target: Target, options: Options = {}): StreamSchedule | null {
  const [graph, made] = [decoderGraph(dims), planOf(options)];
  return isLegal(graph, made, target) ? lowerStream(graph, made, target) : null;
}

const gpus = targets().filter((target) => target.kind === 'cuda');
const small = fc
  .record({
    kvHeads: fc.integer({ min: 1, max: 9 }),
    group: fc.integer({ min: 1, max: 9 }),
    halfHead: fc.integer({ min: 1, max: 40 }),
    hidden: fc.integer({ min: 1, max: 700 }),
    ffn: fc.integer({ min: 1, max: 900 }),
    vocab: fc.integer({ min: 1, max: 600 }),
    layers: fc.integer({ min: 1, max: 3 }),
  })
  .map(({ group, halfHead, ...dims }): ModelDims => {
    return { ...qwen, ...dims, qHeads: group * dims.kvHeads, headDim: 2 * halfHead };
  });

/** Holds for the stream of every small model on every GPU that has room for it. */
const forAll = (runs: number, holds: (made: StreamSchedule, dims: ModelDims, target: Target) => void) =>
  fc.assert(
    fc.property(small, fc.constantFrom(...gpus), fc.constantFrom(8192, 16384), (dims, target, slotBytes) => {
      const made = schedule(dims, target, { slotBytes });
      fc.pre(made !== null);
      holds(made, dims, target);
    }),
    { numRuns: runs },
  );
const blocksOf = ({ blocks }: StreamSchedule) => Array.from({ length: blocks }, (_, block) => block);

test('every tile of every product has one block, and no block has two more than another', () => {
  forAll(300, (made, dims) => {
    const rows = [
      (dims.qHeads + 2 * dims.kvHeads) * dims.headDim,
      dims.hidden,
      2 * dims.ffn,
      dims.hidden,
      dims.vocab,
    ];
    for (const [i, product] of made.products.entries()) {
      const dealt = blocksOf(made).map((block) => tilesOf(product, block, made.blocks));
      // Each block goes on where the one before it ended: from tile 0 to the last, none twice.
      expect(dealt.map(({ first }) => first)).toEqual([0, ...dealt.slice(0, -1).map(({ end }) => end)]);
      expect(dealt.at(-1)!.end).toBe(Math.ceil(rows[i]! / 8));
      const counts = dealt.map(({ first, end }) => end - first);
      expect(Math.max(...counts)).toBe(product.mostTiles);
      expect(Math.min(...counts)).toBeGreaterThanOrEqual(product.mostTiles - 1);
      // The first ones, which attend, have the fewest. Of fewer tiles than blocks they have none, and need not wait if there is a product of which all have one.
      expect(counts).toEqual(counts.toSorted((a, b) => a - b));
      if (product.passedBy) expect(made.products[2]!.tiles).toBeGreaterThanOrEqual(made.blocks);
    }
  });
});

test('packing puts every element of every product into one place of one block, and only padding beside them', () => {
  forAll(40, (made) => {
    for (const product of made.products) {
      const columns = product.cells * 32;
      expect(columns).toBeGreaterThanOrEqual(product.columns);
      const seen = new Uint8Array((product.tiles * 8 * columns) / 8);
      for (const block of blocksOf(made)) {
        const { first, end } = tilesOf(product, block, made.blocks);
        for (let cell = 0; cell < (end - first) * product.cells; cell++) {
          for (let piece = 0; piece < 32; piece++) {
            const { row, column } = cellOf(product, first, cell, piece);
            seen[(row * columns + column) / 8]!++;
          }
        }
      }
      expect(seen.every((times) => times === 1)).toBe(true);
    }
  });
});

test('a warp has the same columns of every row, next to each other, and no other warp has them', () => {
  forAll(100, ({ products }) => {
    for (const product of products) {
      const columnsOf = (warp: number, tile: number) =>
        Array.from({ length: product.cells * 4 }, (_, i) =>
          cellOf(product, 0, tile * product.cells + (i >> 2), i & 3),
        ).flatMap((piece) => (piece.warp === warp ? [piece.column] : []));
      const warps = Array.from({ length: streamWarps }, (_, warp) => columnsOf(warp, 0));
      expect(warps.flat()).toEqual(Array.from({ length: product.cells * 4 }, (_, i) => 8 * i));
      expect(columnsOf(3, 1)).toEqual(warps[3]);
      // None has two cells more than another.
      const counts = warps.map((columns) => columns.length / 4);
      expect(Math.max(...counts)).toBe(product.warpCells);
      expect(Math.min(...counts)).toBeGreaterThanOrEqual(product.warpCells - 1);
    }
  });
});

test('tiles are dealt and cells are placed by the arithmetic of the kernel', () => {
  const templates = join(import.meta.dirname, '../../templates/cuda');
  const found = (file: string, pattern: RegExp) =>
    pattern.exec(readFileSync(join(templates, file), 'utf8'))![0];
  const first = found('stream/deal.cuh', /int first\(int block\) \{[\s\S]*?\n {2}\}/);
  const swizzle = found('stream/formats.cuh', /int cell_piece\(int row, int piece\) \{.*\}/);
  const place = found('stream/pack.cuh', /const int piece = [\s\S]*?const int column = .*;/);
  const columns = found('stream/formats.cuh', /template <int K>\nstruct WarpColumns \{[\s\S]*?\n\};/);
  const [tiles, blocks, cells] = [131, 29, 18];
  const program = `#include <cstdio>
    ${swizzle}
    #define BOTH
    constexpr int kTiles = ${tiles}, kBlocks = ${blocks};
    ${first}
    constexpr int kWarps = ${streamWarps}, kRowTile = 8;
    constexpr int divide_up(int a, int b) { return (a + b - 1) / b; }
    ${columns}
    struct P { using Columns = WarpColumns<${cells * 32 - 40}>; };
    int main() {
      for (int block = 0; block < ${blocks}; ++block) {
        const int end = first(block + 1);
        for (int tile = first(block); tile < end; ++tile) {
          for (int i = 0; i < P::Columns::kCells * 32; ++i) {
            ${place}
            printf("%d %d %d %d\\n", block, row, column, P::Columns::place(column / 32) == i / 32);
          }
        }
      }
    }`;
  const mirrored: string[] = [];
  for (let block = 0; block < blocks; block++) {
    const { first, end } = tilesOf({ tiles }, block, blocks);
    for (let i = 0; i < (end - first) * cells * 32; i++) {
      const { row, column } = cellOf({ cells }, first, i >> 5, i & 31);
      mirrored.push(`${block} ${row} ${column} 1`);
    }
  }
  const folder = mkdtempSync(join(tmpdir(), 'stream-'));
  const binary = join(folder, 'place');
  execFileSync('g++', ['-x', 'c++', '-std=c++17', '-o', binary, '-'], { input: program });
  const printed = execFileSync(binary, { encoding: 'utf8', maxBuffer: 1e8 });
  rmSync(folder, { recursive: true });
  expect(printed.trimEnd() === mirrored.join('\n')).toBe(true);
});

test('the bytes of the blocks add up to those of the stream', () => {
  forAll(100, (made, dims) => {
    const padded = made.products.map((product) => product.tiles * 8 * product.cells * 32 * 2);
    const layer = padded.slice(0, 4).reduce((sum, bytes) => sum + bytes, 0);
    expect(made.streamBytes).toBe(dims.layers * layer + padded[4]!);
  });
});

test('every pass keeps four slots or more, within the shared memory of the target', () => {
  forAll(300, (made, _, target) => {
    for (const memory of made.kernels) {
      expect(memory.slots).toBeGreaterThanOrEqual(4);
      const bytes = streamStaticBytes + memory.workBytes + memory.slots * made.ring.slotBytes;
      expect(bytes).toBeLessThanOrEqual(target.sharedBytes);
    }
  });
});

test('the blocks fit the target, and the parts of all kv heads fit the blocks', () => {
  forAll(300, (made, dims, target) => {
    expect(made.blocks).toBeLessThanOrEqual(target.sms);
    expect(dims.kvHeads * made.splits).toBeLessThanOrEqual(made.blocks);
    expect(made.splits).toBeGreaterThanOrEqual(1);
  });
});

test('fewer blocks than multiprocessors never mean more tiles for the busiest', () => {
  forAll(300, (made, dims, target) => {
    const layer = made.products.filter((product) => product.op !== 'lm_head');
    const tiles = layer.map((product) => product.tiles);
    const busy = Math.min(target.sms, tiles[2]!, 2 * Math.min(...tiles));
    if (made.blocks <= dims.kvHeads) return; // as many as attention needs
    for (const product of layer) expect(product.mostTiles).toBe(Math.ceil(product.tiles / busy));
  });
});

describe('the stream of qwen3-0.6b on h100', () => {
  const h100 = targetOf('h100');
  const made = schedule(qwen, h100)!;

  test('has 128 blocks, 16 tokens a pass, and no padding', () => {
    expect([made.blocks, made.kernels.at(-1)!.tokens, made.splits]).toEqual([128, 16, 16]);
    expect(made.products.map(({ mostTiles }) => mostTiles)).toEqual([4, 1, 6, 1, 149]);
    expect(made.streamBytes).toBe(1191968768);
  });

  test('has a kernel for 1, 4, 8 and 16 tokens, with fewer slots for more of them', () => {
    expect(made.kernels.map(({ tokens, slots }) => [tokens, slots])).toEqual([
      [1, 12],
      [4, 8],
      [8, 8],
      [16, 5],
    ]);
  });

  test('has a widest pass, which the width of a model sets', () => {
    const widest = (name: string) => {
      const dims = models.find((model) => model.name === name)!;
      return [name, schedule(dims, h100)!.kernels.at(-1)!.tokens];
    };
    const wanted = { 'qwen3-1.7b': 8, 'llama-3.2-1b': 8, 'llama-3.2-3b': 4, 'qwen3-4b': 4, 'qwen3-8b': 4 };
    expect(Object.keys(wanted).map(widest)).toEqual(Object.entries(wanted));
  });

  test('has one slot under way, a larger model two, unless the plan says how many', () => {
    const large = models.find(({ name }) => name === 'qwen3-1.7b')!;
    const copies = (dims: ModelDims, options: Options = {}) =>
      schedule(dims, h100, options)!.ring.copiesInFlight;
    expect([copies(qwen), copies(large)]).toEqual([1, 2]);
    expect(copies(qwen, { copiesInFlight: 3 })).toBe(3);
  });

  test('takes the tokens that a plan asks for', () => {
    const kernelsFor = (tokens: number) => schedule(qwen, h100, { tokens })!.kernels.map((k) => k.tokens);
    expect([1, 2, 4, 8].map(kernelsFor)).toEqual([[1], [1, 2], [1, 4], [1, 4, 8]]);
  });

  test('is none where not even one token fits', () => {
    const small = { ...h100, sharedBytes: 48 * 1024 };
    expect(schedule(qwen, small)).toBeNull();
    const issues = checkPlan(decoderGraph(qwen), planOf({}), small);
    expect(issues.map((issue) => issue.rule)).toEqual(['shared-memory-over-budget']);
  });
});
