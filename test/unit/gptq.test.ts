// GPTQ against the textbook: a dense inverse that loses a column at a time, and no triangle.
import { describe, expect, test } from 'vitest';
import { addProducts, columnsOf, damp, factorise, roundByInputs } from '../../lab/gptq.ts';
import { randomFrom } from '../../lab/random.ts';
import {
  fp8Rows,
  fromFp8,
  packLevels,
  toFp8,
  type WrittenFormat,
  writtenFormats,
} from '../../quantised/layout.ts';
import { levelsOfBlocks, roundToBlocks } from '../../runtime/reference/blocks.ts';

const [rows, width, tokens] = [19, 96, 400];

/** Sums of twelve even numbers, about normal. */
function normals(seed: number, n: number): Float32Array {
  const next = randomFrom(seed);
  return Float32Array.from({ length: n }, () => Array.from({ length: 12 }, next).reduce((a, b) => a + b) - 6);
}

/** Inputs [tokens, width] that share a part; the columns named are never seen. */
function correlated(dead: readonly number[] = []): Float32Array {
  const shared = normals(1, tokens);
  return normals(2, tokens * width).map((x, i) =>
    dead.includes(i % width) ? 0 : x + 1.5 * shared[Math.floor(i / width)]! * Math.cos(i % width),
  );
}
const weights = normals(3, rows * width).map((x) => x / 20);

function factorised(sums: Float64Array): Float64Array {
  const made = new Float64Array(width * width);
  damp(sums, width);
  factorise(sums, made, new Int32Array(width));
  return made;
}

/** What the inputs say, in sequences of uneven lengths. */
function factorOf(inputs: Float32Array): Float64Array {
  const sums = new Float64Array(width * width);
  for (const [from, to] of [
    [0, 7],
    [7, 263],
    [263, tokens],
  ])
    addProducts(sums, columnsOf(inputs.subarray(from! * width, to! * width), width), width);
  return factorised(sums);
}

/** Squares of what outputs X W^T lose. */
function lost(inputs: Float32Array, numbers: Float32Array): number {
  let sum = 0;
  for (let t = 0; t < tokens; t++) {
    for (let row = 0; row < rows; row++) {
      let off = 0;
      for (let i = 0; i < width; i++)
        off += inputs[t * width + i]! * (weights[row * width + i]! - numbers[row * width + i]!);
      sum += off ** 2;
    }
  }
  return sum;
}

function nearest(format: WrittenFormat): Float32Array {
  if (format !== 'fp8') return roundToBlocks(format, weights, width);
  const { codes, scales } = fp8Rows(weights, width);
  return Float32Array.from(codes, (code, i) => fromFp8(code) * scales[Math.floor(i / width)]!);
}

/** Gauss and Jordan, without pivots: the matrix is positive definite. */
function inverse(matrix: number[][]): number[][] {
  const n = matrix.length;
  const wide = matrix.map((row, i) => [...row, ...row.map((_, j) => Number(i === j))]);
  for (let i = 0; i < n; i++) {
    const pivot = wide[i]![i]!;
    wide[i] = wide[i]!.map((x) => x / pivot);
    for (let k = 0; k < n; k++) {
      const factor = wide[k]![i]!;
      if (k !== i) wide[k] = wide[k]!.map((x, j) => x - factor * wide[i]![j]!);
    }
  }
  return wide.map((row) => row.slice(n));
}

/** Algorithm of section 3 of the paper, one row at a time: column c is rounded, the others move by its error times the inverse's row, and
 *  the inverse forgets c. */
function textbook(format: WrittenFormat, inputs: Float32Array): Float32Array {
  const products = Array.from({ length: width }, (_, i) =>
    Array.from({ length: width }, (_, j) => {
      let sum = 0;
      for (let t = 0; t < tokens; t++) sum += inputs[t * width + i]! * inputs[t * width + j]!;
      return sum;
    }),
  );
  const diagonal = products.map((row, i) => row[i]!);
  const live = diagonal.filter((x) => x > 0);
  const added = 0.01 * (live.reduce((sum, x) => sum + x, 0) / live.length);
  for (let i = 0; i < width; i++) products[i]![i]! += added;
  const group = format === 'fp8' ? width : 32;
  const out = new Float32Array(rows * width);
  const forgetting: number[][][] = [inverse(products)];
  for (let c = 0; c < width; c++) {
    const now = forgetting[c]!;
    forgetting.push(now.map((row) => row.map((x, j) => x - (row[c]! * now[c]![j]!) / now[c]![c]!)));
  }
  for (let row = 0; row < rows; row++) {
    const w = Float64Array.from(weights.subarray(row * width, (row + 1) * width));
    let scale = Number.NaN;
    let begun = new Float64Array(0);
    let levels = new Int8Array(0);
    for (let c = 0; c < width; c++) {
      if (c % group === 0) {
        begun = w.slice(c, c + group);
        const part = Float32Array.from(begun);
        if (format === 'fp8') scale = fp8Rows(part, group).scales[0]!;
        else {
          const chosen = levelsOfBlocks(format, part, group);
          scale = chosen.scales[0]!;
          levels = Int8Array.from(chosen.levels);
        }
      }
      const most = { int8: 127, int4: 7, fp8: 448 }[format];
      const least = format === 'int4' ? -8 : -most;
      const level = format === 'fp8' ? fromFp8(toFp8(w[c]! / scale)) : Math.floor(w[c]! / scale + 0.5);
      // What has not moved has its code with the scale.
      const isMoved = format === 'fp8' || w[c] !== begun[c % group];
      const code = isMoved ? Math.min(most, Math.max(least, level)) : levels[c % group]!;
      const number = code * scale;
      out[row * width + c] = number;
      const inv = forgetting[c]!;
      const error = (w[c]! - number) / inv[c]![c]!;
      for (let j = c + 1; j < width; j++) w[j]! -= error * inv[c]![j]!;
    }
  }
  return out;
}

describe.each(writtenFormats)('%s', (format) => {
  test('is the textbook', async () => {
    const inputs = correlated();
    const { numbers } = roundByInputs(format, weights, width, factorOf(inputs));
    expect(numbers).toEqual(textbook(format, inputs));
  });

  test('outputs lose less than with the nearest numbers', async () => {
    const inputs = correlated();
    const { numbers } = roundByInputs(format, weights, width, factorOf(inputs));
    expect(lost(inputs, numbers)).toBeLessThan(lost(inputs, nearest(format)));
  });

  test.each([
    ['inputs that have nothing to do with each other', (i: number) => 1 + (i % 3)],
    ['inputs that were never seen', () => 0],
  ])('%s leave codes and scales those of rounding to nearest', async (_, seen) => {
    const sums = new Float64Array(width * width);
    for (let i = 0; i < width; i++) sums[i * width + i] = seen(i);
    const { codes, scales, numbers } = roundByInputs(format, weights, width, factorised(sums));
    const plain = format === 'fp8' ? fp8Rows(weights, width) : levelsOfBlocks(format, weights, width);
    expect(codes).toEqual('codes' in plain ? plain.codes : packLevels(format as 'int4', plain.levels));
    expect(scales).toEqual(plain.scales);
    // A level of 0 has no sign.
    expect(numbers.map((x) => x + 0)).toEqual(nearest(format).map((x) => x + 0));
  });

  test('columns that were never seen are rounded to nearest beside the others, and hand nothing on', async () => {
    const dead = [0, 5, 33, 95];
    const inputs = correlated(dead);
    const factor = factorOf(inputs);
    const { numbers } = roundByInputs(format, weights, width, factor);
    expect(numbers).toEqual(textbook(format, inputs));
    for (const column of dead) {
      for (let other = 0; other < width; other++) {
        if (other > column) expect(Math.abs(factor[column * width + other]!)).toBe(0);
        if (other < column) expect(Math.abs(factor[other * width + column]!)).toBe(0);
      }
    }
  });

  test('rows know nothing of each other, and twice is the same', async () => {
    const factor = factorOf(correlated());
    const whole = roundByInputs(format, weights, width, factor);
    const part = roundByInputs(format, weights.slice(5 * width), width, factor);
    expect(part.numbers).toEqual(whole.numbers.slice(5 * width));
    expect(roundByInputs(format, weights, width, factorOf(correlated()))).toEqual(whole);
  });
});
