// Matrices on their way into slots in blocks: what is rounded, what is kept byte for byte, and what a file of other numbers becomes.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import type { Slot } from '../../abi/manifest.ts';
import { toFp8 } from '../../quantised/layout.ts';
import { notPacked } from '../../runtime/engine/arguments.ts';
import { sourceDtype, type TensorSource } from '../../runtime/engine/bindings.ts';
import { roundToBlocks } from '../../runtime/reference/blocks.ts';
import { expandBlocks } from '../../runtime/reference/gguf.ts';
import { blockLayouts, e4m3 } from '../support/blocks.ts';
import { fakeEngines } from '../support/fake-engines.ts';
import { quantise } from '../support/quantise.ts';

/** One block; rows that end within a block, with more room than they take; two slots row by row in turn; blocks that chunks of 4 MiB cut. */
const slots: Slot[] = [
  { tensor: 'block', shape: [4, 32], offset: 0, stride: 32, dtype: 'int8' },
  { tensor: 'padded', shape: [4, 45], offset: 256, stride: 96, dtype: 'int4' },
  { tensor: 'even', shape: [8, 256], offset: 1024, stride: 512, dtype: 'int8' },
  { tensor: 'odd', shape: [8, 256], offset: 1024 + 272, stride: 512, dtype: 'int8' },
  { tensor: 'eights', shape: [12, 2048], offset: 2 ** 22 - 20_480, stride: 2048, dtype: 'int8' },
  { tensor: 'fours', shape: [16, 2048], offset: 2 ** 23 - 10_240, stride: 2048, dtype: 'int4' },
  { tensor: 'floats', shape: [12, 2048], offset: 2 ** 23 + 10_240, stride: 2048, dtype: 'fp8' },
  { tensor: 'padded floats', shape: [4, 45], offset: 2 ** 23 + 40_960, stride: 96, dtype: 'fp8' },
  { tensor: 'codes', shape: [16, 2048], offset: 2 ** 23 + 43_008, stride: 2048, dtype: 'int4-asym' },
  { tensor: 'padded codes', shape: [4, 45], offset: 2 ** 23 + 65_536, stride: 96, dtype: 'int4-asym' },
];
const formatOf = ({ dtype }: Slot) => blockLayouts[dtype as keyof typeof blockLayouts];

const { fake, emptyEngine } = await fakeEngines(slots);
const folder = mkdtempSync(join(tmpdir(), 'onelaunch-quantised-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** The image of the packed weights. A source without bytes is random. */
async function loaded(sources: readonly { bytes?: Buffer; dtype: number; headRows?: number }[]) {
  const path = join(folder, 'weights');
  writeFileSync(
    path,
    Buffer.concat([Buffer.alloc(13), ...sources.map(({ bytes }) => bytes ?? Buffer.alloc(0))]),
  );
  let offset = 13;
  const list = sources.map(({ bytes, dtype, headRows = 0 }, slot): TensorSource => {
    const at = offset;
    offset += bytes?.length ?? 0;
    return {
      path: bytes ? path : null,
      offset: bytes ? at : 0,
      slot,
      dtype,
      head_rows: headRows,
      seed: slot,
      mean: 0,
      scale: 1,
      packing: notPacked,
    };
  });
  const engine = await emptyEngine();
  await engine.load(list);
  return Buffer.from(fake.weights());
}

/** Stored blocks of row r of a slot. */
function rowOf(image: Buffer, slot: Slot, row: number): Buffer {
  const { bytes } = formatOf(slot);
  const start = slot.offset + (row * slot.stride * bytes) / 32;
  return image.subarray(start, start + Math.ceil(slot.shape[1] / 32) * bytes);
}

/** Of each slot the first number that is not what it should be; numbers behind the end of a row are zeros, of int4-asym the code next to it. */
function wrongIn(image: Buffer, expected: readonly Float32Array[], fileRow = (row: number) => row): string[] {
  return slots.flatMap((slot, i) => {
    const [rows, columns] = slot.shape;
    for (let row = 0; row < rows; row++) {
      const got = formatOf(slot).expand(rowOf(image, slot, row));
      const count = slot.dtype === 'int4-asym' ? columns : got.length;
      for (let column = 0; column < count; column++) {
        const right = column < columns ? expected[i]![fileRow(row) * columns + column]! : 0;
        if (got[column] !== right && !(got[column] === 0 && right === 0))
          return [`${slot.tensor} [${row}, ${column}]: ${got[column]}, ${right} expected`];
      }
    }
    return [];
  });
}

/** Numbers of very different sizes from block to block. */
const numbers = slots.map(({ shape: [rows, columns] }, i) => {
  let state = i + 1;
  return Float32Array.from({ length: rows * columns }, (_, at) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 31 - 1) * 2 ** (((at >> 5) % 11) - 6);
  });
});
const rounded = slots.map((slot, i) => roundToBlocks(slot.dtype, numbers[i]!, slot.shape[1]));
const asFloats = (values: Float32Array) => Buffer.from(values.buffer);

it('numbers are rounded as the oracle rounds them', async () => {
  const image = await loaded(numbers.map((values) => ({ bytes: asFloats(values), dtype: sourceDtype.fp32 })));
  expect(wrongIn(image, rounded)).toEqual([]);
});

it('what is rounded is near: half a step of int8 and int4-asym, in int4 on average half a step of 14.5, and of fp8 half an eighth of each', () => {
  const far = slots.flatMap(({ dtype, shape: [, columns], tensor }, i) => {
    const values = numbers[i]!;
    for (let from = 0; from < values.length; from += columns) {
      for (let at = from; at < from + columns; at += 32) {
        const block = values.subarray(at, Math.min(at + 32, from + columns));
        const most = Math.max(...block.map(Math.abs));
        // The scale is rounded to float16, too: 127 or 8 steps of 2^-11 of itself.
        const lost = block.map((x, j) => Math.abs(x - rounded[i]![at + j]!));
        const isNear = {
          int8: () => Math.max(...lost) <= most * (0.5 / 127 + 2 ** -11),
          int4: () => Math.hypot(...lost) <= Math.sqrt(32) * most * (0.5 / 7.25 + 2 ** -11),
          // All within 15 steps, and the padding of a row, which is 0.
          'int4-asym': () => Math.max(...lost) <= most * (2 * (0.5 / 15 + 2 ** -11) + 2 ** -11),
          // Of subnormal numbers steps are of 2^-9, where the largest is 240 at least.
          fp8: () =>
            lost.every(
              (far, j) => far <= Math.abs(block[j]!) * (2 ** -4 + 2 ** -11) + (most / 240) * 2 ** -10,
            ),
        }[dtype as keyof typeof blockLayouts];
        if (!isNear()) return [`${tensor} ${at}`];
      }
    }
    return [];
  });
  expect(far).toEqual([]);
});

it('rows of a head are put where the model has them', async () => {
  // Of four rows, 0 and 2 are a pair in the model, and 0 and 1 in the file.
  const fileRow = (row: number) => row - (row % 4) + [0, 2, 1, 3][row % 4]!;
  const image = await loaded(
    numbers.map((values) => ({ bytes: asFloats(values), dtype: sourceDtype.fp32, headRows: 4 })),
  );
  expect(wrongIn(image, rounded, fileRow)).toEqual([]);
});

it('blocks of the same format are kept byte for byte, and others rounded', async () => {
  // No file has blocks of fp8.
  const whole = slots.map(({ shape: [, columns], dtype }) => columns % 32 === 0 && dtype !== 'fp8');
  const named = { int8: 'Q8_0', int4: 'Q4_0', 'int4-asym': 'Q4_1' } as const;
  const codeOf = { Q8_0: sourceDtype.q8_0, Q4_0: sourceDtype.q4_0, Q4_1: sourceDtype.q4_1 };
  const source = (other: boolean) =>
    slots.map((slot, i) => {
      if (!whole[i]) return { bytes: asFloats(numbers[i]!), dtype: sourceDtype.fp32 };
      const name = named[other ? (slot.dtype === 'int8' ? 'int4' : 'int8') : (slot.dtype as 'int8')];
      return { bytes: quantise(name, numbers[i]!), dtype: codeOf[name] };
    });
  const same = source(false);
  const image = await loaded(same);
  for (const [i, slot] of slots.entries()) {
    if (!whole[i]) continue;
    const { bytes } = formatOf(slot);
    const row = (slot.shape[1] / 32) * bytes;
    for (let r = 0; r < slot.shape[0]; r++) {
      const right = same[i]!.bytes.subarray(r * row, (r + 1) * row);
      if (!rowOf(image, slot, r).equals(right)) expect.fail(`${slot.tensor}, row ${r}`);
    }
  }
  const others = source(true);
  const expected = slots.map((slot, i) => {
    if (!whole[i]) return rounded[i]!;
    const values = expandBlocks(slot.dtype === 'int8' ? 2 : 8, others[i]!.bytes);
    return roundToBlocks(slot.dtype, values, slot.shape[1]);
  });
  expect(wrongIn(await loaded(others), expected)).toEqual([]);
});

it.each([
  ['Q4_0', sourceDtype.q4_0, 2],
  ['Q4_K', sourceDtype.q4_k, 12],
] as const)('int4-asym has the codes of %s, with scale and minimum in fp16', async (name, dtype, type) => {
  const at = 8;
  const bytes = quantise(name, numbers[at]!);
  const sources = numbers.map((values, i) =>
    i === at ? { bytes, dtype } : { bytes: asFloats(values), dtype: sourceDtype.fp32 },
  );
  const image = await loaded(sources);
  const rows = Array.from({ length: 16 }, (_, row) => rowOf(image, slots[at]!, row));
  const ours = expandBlocks(3, Buffer.concat(rows));
  const theirs = expandBlocks(type, bytes);
  for (let from = 0; from < theirs.length; from += 32) {
    const block = theirs.subarray(from, from + 32);
    // Fewer codes than 16 are in use where all numbers are of one sign: then the minimum is 15 steps at most.
    const most = Math.max(...block.map(Math.abs), Math.max(...block) - Math.min(...block));
    const far = Math.max(...block.map((x, i) => Math.abs(x - ours[from + i]!)));
    if (far > 2 * most * 2 ** -11) expect.fail(`block ${from / 32}: ${far} of ${most}`);
  }
});

it('random numbers are rounded, and are the same each time', async () => {
  const sources = slots.map(() => ({ dtype: sourceDtype.random }));
  const image = await loaded(sources);
  const values = expandBlocks(8, rowOf(image, slots[4]!, 7));
  const square = values.reduce((sum, x) => sum + x * x, 0) / values.length;
  // Of 4,096 squares of deviation 1, whose own deviation is at most sqrt(2): six of the mean's.
  expect(Math.abs(square - 1)).toBeLessThan(6 * Math.sqrt(2 / values.length));
  expect((await loaded(sources)).equals(image)).toBe(true);
});

it('a block with a number that is not finite stands for none that is', async () => {
  const spoilt = [0, 1, 6, 8];
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
    const sources = numbers.map((values, i) => {
      const own = spoilt.includes(i) ? values.with(3, bad) : values;
      return { bytes: asFloats(own), dtype: sourceDtype.fp32 };
    });
    const image = await loaded(sources);
    for (const i of spoilt)
      expect(
        [
          ...formatOf(slots[i]!)
            .expand(rowOf(image, slots[i]!, 0))
            .subarray(0, 32),
        ].some(Number.isFinite),
      ).toBe(false);
  }
});

it('int4 loses hardly more than with the best of many scales, and less than with the largest number at -8', () => {
  /** Squared error of a block whose largest number lies at this level, with the scale of least squared error or that of the level. */
  const lossAt = (block: Float32Array, end: number, refit: boolean) => {
    const most = block.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a));
    const levels = Array.from(block, (x) => Math.max(-8, Math.min(7, Math.round((x * end) / most))));
    const sum = (of: (x: number, level: number) => number) =>
      levels.reduce((total, level, i) => total + of(block[i]!, level), 0);
    const scale = refit ? sum((x, level) => x * level) / sum((_, level) => level * level) : most / end;
    return sum((x, level) => (x - scale * level) ** 2);
  };
  const ends = Array.from({ length: 41 }, (_, i) => -10 + i / 10);
  const total = { ours: 0, best: 0, plain: 0 };
  const [values, ours] = [numbers[5]!, rounded[5]!];
  for (let at = 0; at < values.length; at += 32) {
    const block = values.subarray(at, at + 32);
    total.ours += block.reduce((sum, x, i) => sum + (x - ours[at + i]!) ** 2, 0);
    total.best += Math.min(...ends.map((end) => lossAt(block, end, true)));
    total.plain += lossAt(block, -8, false);
  }
  expect(total.ours / total.best).toBeLessThan(1.05);
  expect(total.ours / total.plain).toBeLessThan(1);
});

it('fp8 loses less than with the largest number at 448', () => {
  const total = { ours: 0, plain: 0 };
  for (let at = 0; at < numbers[6]!.length; at += 32) {
    const block = numbers[6]!.subarray(at, at + 32);
    const scale = Math.max(...block.map(Math.abs)) / 448;
    block.forEach((x, i) => {
      total.ours += (x - rounded[6]![at + i]!) ** 2;
      total.plain += (x - scale * e4m3(toFp8(x / scale))) ** 2;
    });
  }
  expect(total.ours / total.plain).toBeLessThan(1);
});

it('int4 keeps numbers that its blocks can say, to the last bit, and fp8 too', () => {
  const said = { int4: expandBlocks(2, quantise('Q4_0', numbers[5]!)), fp8: rounded[6]! };
  for (const [format, values] of Object.entries(said))
    expect(roundToBlocks(format, values, 2048).findIndex((x, i) => x !== values[i])).toBe(-1);
});

/** Blocks by hand: a scale of 1 (0x3c00) or -1 (0xbc00), and the numbers of the first bytes. */
it.each([
  ['int8', [127, -127, 0.5, -0.5, 1.5, 0.49999997], [0, 0x3c, 127, 0x81, 1, 0xff, 2, 0]],
  // Products 123.5 and squares 123 of the levels -8, 7, 3 and -1 make the scale 1.0041, in fp16 1 + 4 / 1024.
  ['int4', [-8, 7, 3.25, -0.75], [4, 0x3c, 0x80, 0x8f, 0x8b, 0x87, 0x88]],
  ['int4', [8, -7, -3.25, 0.75], [4, 0xbc, 0x80, 0x8f, 0x8b, 0x87, 0x88]],
  // From -3.5 to 4 in 15 steps of a half (0x3800), the least 0xc300; a half of a step is rounded up. All others are 0, which is code 7.
  ['int4-asym', [-3.5, 4, -3.25, 0.2, 0.25, 1], [0, 0x38, 0, 0xc3, 0x70, 0x7f, 0x71, 0x77, 0x78, 0x79]],
  // The scale is kept 256-fold. Numbers of one octave keep the largest at 448. Ties are to the even fraction, of subnormal numbers too.
  [
    'fp8',
    [448, -416, 352, -288, -1, 1.0625, 1.1875, 2 ** -6, 2 ** -9, 2 ** -10, -3 * 2 ** -10],
    [0, 0x5c, 126, 0xfd, 123, 0xf9, 0xb8, 56, 58, 8, 1, 0, 0x82],
  ],
  // At 448 four of these would be others; at 256, with a scale of 7 / 4, all are said.
  ['fp8', [448, -420, 392, -364, 336], [0, 0x5f, 120, 0xf7, 118, 0xf5, 116]],
] as const)('%s, a block by hand', async (format, first, bytes) => {
  const at = { int8: 0, int4: 1, fp8: 6, 'int4-asym': 8 }[format];
  const values = numbers[at]!.map((_, i) => first[i] ?? 0);
  const sources = numbers.map((all, i) => ({
    bytes: asFloats(i === at ? values : all),
    dtype: sourceDtype.fp32,
  }));
  const image = await loaded(sources);
  expect([...rowOf(image, slots[at]!, 0).subarray(0, bytes.length)]).toEqual([...bytes]);
});
