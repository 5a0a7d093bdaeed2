// Weights in blocks, and rows of rotary pairs, on their way from a GGUF file to packed slots.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { notPacked } from '../../runtime/engine/arguments.ts';
import { sourceDtype, type TensorSource } from '../../runtime/engine/bindings.ts';
import { expandBlocks } from '../../runtime/reference/gguf.ts';
import { fakeEngines } from '../support/fake-engines.ts';
import type { PlainSlot } from '../support/fake-slots.ts';
import { encode, round } from '../support/number-formats.ts';
import { type Quantised, quantise } from '../support/quantise.ts';

const bytesOf = { bf16: 2, fp16: 2, fp32: 4 } as const;
/** One block alone; padded rows; two slots row by row in turn; one that a chunk of 4 MiB ends in, within a block; all with heads of 4 rows. */
const slots: PlainSlot[] = [
  { tensor: 'block', shape: [4, 256], offset: 0, stride: 256, dtype: 'fp32' },
  { tensor: 'padded', shape: [8, 512], offset: 4096, stride: 1056, dtype: 'fp16' },
  { tensor: 'even', shape: [12, 256], offset: 20992, stride: 512, dtype: 'bf16' },
  { tensor: 'odd', shape: [12, 256], offset: 20992 + 512, stride: 512, dtype: 'bf16' },
  { tensor: 'long', shape: [700, 3072], offset: 33280 + 256, stride: 3072, dtype: 'bf16' },
];
const { fake, emptyEngine } = await fakeEngines(slots);
const folder = mkdtempSync(join(tmpdir(), 'onelaunch-blocks-'));
afterAll(() => rmSync(folder, { recursive: true }));

const types: readonly (readonly [type: Quantised, code: number, dtype: number])[] = [
  ['Q8_0', 8, sourceDtype.q8_0],
  ['Q4_0', 2, sourceDtype.q4_0],
  ['Q4_1', 3, sourceDtype.q4_1],
  ['Q5_0', 6, sourceDtype.q5_0],
  ['Q5_1', 7, sourceDtype.q5_1],
  ['Q4_K', 12, sourceDtype.q4_k],
  ['Q5_K', 13, sourceDtype.q5_k],
  ['Q6_K', 14, sourceDtype.q6_k],
];

async function loaded(
  stored: readonly Buffer[],
  dtype: number,
  headRows = 0,
  threads = 2,
): Promise<DataView> {
  const path = join(folder, 'weights');
  writeFileSync(path, Buffer.concat([Buffer.alloc(13), ...stored]));
  let offset = 13;
  const sources = stored.map((bytes, slot): TensorSource => {
    const at = offset;
    offset += bytes.length;
    return {
      path,
      offset: at,
      slot,
      dtype,
      head_rows: headRows,
      seed: 0,
      mean: 0,
      scale: 0,
      packing: notPacked,
    };
  });
  const engine = await emptyEngine({ threads });
  await engine.load(sources);
  const image = fake.weights();
  return new DataView(image.buffer, image.byteOffset, image.byteLength);
}

/** Numbers of a slot in the image that are not what they should be, the first three. */
function wrongIn(
  image: DataView,
  slot: PlainSlot,
  values: Float32Array,
  fileRow = (row: number) => row,
): string[] {
  const wrong: string[] = [];
  const [rows, columns] = slot.shape;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const at = slot.offset + (row * slot.stride + column) * bytesOf[slot.dtype];
      const bits = slot.dtype === 'fp32' ? image.getUint32(at, true) : image.getUint16(at, true);
      const value = values[fileRow(row) * columns + column]!;
      const right = encode(round(value, slot.dtype), slot.dtype);
      // Zeros of both signs are alike.
      if (bits === right || (value === 0 && bits << 1 === 0) || wrong.length === 3) continue;
      wrong.push(`${slot.tensor} [${row}, ${column}]: ${bits}, ${right} for ${value} expected`);
    }
  }
  return wrong;
}

function values(seed: number, count: number): Float32Array {
  let state = seed + 1;
  return new Float32Array(count).map(() => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 31 - 1) * 0.05;
  });
}

describe.each(types)('%s', (type, code, dtype) => {
  const stored = slots.map(({ shape }, i) => quantise(type, values(i, shape[0] * shape[1])));

  it('is loaded into every format, number by number', async () => {
    const image = await loaded(stored, dtype);
    const expanded = stored.map((bytes) => expandBlocks(code, bytes));
    expect(slots.flatMap((slot, i) => wrongIn(image, slot, expanded[i]!))).toEqual([]);
  });

  it('is near the numbers that it was made of', () => {
    const { shape } = slots[4]!;
    const count = 10_240;
    const first = expandBlocks(
      code,
      stored[4]!.subarray(0, (stored[4]!.length * count) / (shape[0] * shape[1])),
    );
    expect(first).toHaveLength(count);
    const most = Math.max(...values(4, count).map((value, i) => Math.abs(value - first[i]!)));
    expect(most).toBeLessThan({ Q8_0: 0.001, Q6_K: 0.004, Q4_0: 0.008 }[type as string] ?? 0.006);
  });
});

it('rows of a head are put where the model has them, with any number of threads', async () => {
  const stored = slots.map(({ shape }, i) => Buffer.from(values(i, shape[0] * shape[1]).buffer));
  // Of four rows, 0 and 2 are a pair in the model, and 0 and 1 in the file.
  const fileRow = (row: number) => row - (row % 4) + [0, 2, 1, 3][row % 4]!;
  for (const threads of [1, 3]) {
    const image = await loaded(stored, sourceDtype.fp32, 4, threads);
    const wrong = slots.flatMap((slot, i) =>
      wrongIn(image, slot, new Float32Array(Uint8Array.from(stored[i]!).buffer), fileRow),
    );
    expect(wrong).toEqual([]);
  }
});

/** Blocks by hand, and what some of their elements are. Halves: 0x3800 is 0.5, 0x4000 is 2, 0x3c00 is 1. */
const byHand: readonly (readonly [Quantised, number, (bytes: Buffer) => void, Record<number, number>])[] = [
  ['Q8_0', 34, (b) => b.set([0, 0x38, 3, 0x80], 0), { 0: 1.5, 1: -64, 2: 0 }],
  ['Q4_0', 18, (b) => b.set([0, 0x38, 0xf1], 0), { 0: -3.5, 16: 3.5, 1: -4, 17: -4 }],
  ['Q4_1', 20, (b) => b.set([0, 0x38, 0, 0x40, 0xf1], 0), { 0: 2.5, 16: 9.5, 1: 2 }],
  ['Q5_0', 22, (b) => b.set([0, 0x38, 1, 0, 2, 0, 0xf1], 0), { 0: 0.5, 16: -0.5, 17: 0, 1: -8 }],
  ['Q5_1', 24, (b) => b.set([0, 0x38, 0, 0x40, 1, 0, 2, 0, 0xf1], 0), { 0: 10.5, 16: 9.5, 17: 10, 1: 2 }],
  [
    'Q4_K',
    144,
    // Part 0: scale 3, minimum 1; part 1: 0 and 0; part 4: scale 2 + 16, minimum 5 + 32.
    (b) => {
      b.set([0, 0x38, 0, 0x3c, 3 | 0x40, 0, 0, 0, 1 | 0x80, 0, 0, 0, 0x52], 0);
      b.set([0xf2], 16);
      b.set([0x07], 16 + 64);
    },
    { 0: 2, 1: -1, 32: 0, 128: 63 - 37, 129: -37 },
  ],
  [
    'Q5_K',
    176,
    (b) => {
      b.set([0, 0x38, 0, 0x3c, 3, 2], 0);
      b.set([0b11, 0b10], 16);
      b.set([0xf2], 48);
    },
    { 0: 1.5 * 18, 1: 0, 32: 31, 33: 16 },
  ],
  [
    'Q6_K',
    210,
    (b) => {
      b.set([0x21], 0);
      b.set([0b11_00_01_10], 128);
      b.set([2, 3, 0xff, 1, 4], 192);
      b.set([0, 0x38], 208);
    },
    // Two high bits of elements 0, 32, 64 and 96 are 2, 1, 0 and 3.
    { 0: 1, 16: -48, 32: 8, 64: -60, 1: -32 },
  ],
];

it.each(byHand)('a block of %s that was written by hand', async (type, size, write, expected) => {
  const [, , dtype] = types.find(([name]) => name === type)!;
  const [first, ...others] = slots.map(({ shape }) =>
    Buffer.alloc(((shape[0] * shape[1]) / (size > 100 ? 256 : 32)) * size),
  );
  write(first!);
  const image = await loaded([first!, ...others], dtype);
  const got = Object.keys(expected).map((i) => [i, image.getFloat32(4 * Number(i), true)]);
  expect(Object.fromEntries(got)).toEqual(expected);
});
