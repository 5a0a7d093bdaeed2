// GPTQ (Frantar et al. 2022): columns of a matrix are rounded in order, and what each one loses is made up for by those that follow, as its inputs say.
import {
  fp8Rows,
  fromFp8,
  groupColumns,
  packLevels,
  toFp8,
  type WrittenFormat,
} from '../quantised/layout.ts';
import { levelsOfBlocks } from '../runtime/reference/blocks.ts';

/** What one of several threads does: every `parts`-th of rows, or of blocks of columns, from `part` on. The bits are the same for any number of them. */
export interface Share {
  readonly part: number;
  readonly parts: number;
}

const alone: Share = { part: 0, parts: 1 };

/** Inputs [tokens, width] as columns [width, tokens], so that sums of products go through memory in order. */
export function columnsOf(inputs: Float32Array, width: number): Float32Array {
  const tokens = inputs.length / width;
  const columns = new Float32Array(inputs.length);
  for (let t = 0; t < tokens; t++)
    for (let i = 0; i < width; i++) columns[i * tokens + t] = inputs[t * width + i]!;
  return columns;
}

/** Adds the products of columns [width, tokens] with each other to sums [width, width], of which the upper triangle counts. */
export function addProducts(
  sums: Float64Array,
  columns: Float32Array,
  width: number,
  { part, parts }: Share = alone,
): void {
  const tokens = columns.length / width;
  for (let i = part; i < width; i += parts) {
    for (let j = i; j < width; j += 2) {
      const [a, b] = [i * tokens, j * tokens];
      // Two at once: a number that is read is used twice. The second of the last may be none.
      const c = j + 1 < width ? b + tokens : b;
      let [first, second] = [0, 0];
      for (let t = 0; t < tokens; t++) {
        const x = columns[a + t]!;
        first += x * columns[b + t]!;
        second += x * columns[c + t]!;
      }
      sums[i * width + j]! += first;
      if (c !== b) sums[i * width + j + 1]! += second;
    }
  }
}

/** Of the mean of the diagonal, what is added to it, as in the paper. */
const damping = 0.01;

/** Adds to the diagonal of sums [width, width] what makes them positive definite. Inputs that were never seen are apart from all others: they get no
 *  error and hand none on. All numbers are finite. */
export function damp(sums: Float64Array, width: number): void {
  let [total, live] = [0, 0];
  for (let i = 0; i < width; i++) {
    total += sums[i * width + i]!;
    if (sums[i * width + i]! > 0) live++;
  }
  const added = live === 0 ? 1 : (damping * total) / live;
  for (let i = 0; i < width; i++) sums[i * width + i]! += added;
}

/** Columns that are inverted together. */
const besides = 32;

/** Makes of damped sums [width, width], upper triangle, the triangle U with U^T U = sums^-1; of the sums nothing is left.
 *  @param made [width, width], where U comes
 *  @param ready [width] zeros, which all threads share as they do sums and made: they wait for each other's rows */
export function factorise(
  sums: Float64Array,
  made: Float64Array,
  ready: Int32Array,
  { part, parts }: Share = alone,
): void {
  const width = ready.length;
  const isOurs = (row: number) => row % parts === part;
  const isThere = (row: number) => {
    while (!isOurs(row) && Atomics.load(ready, row) === 0) Atomics.wait(ready, row, 0);
  };
  // R with R R^T = sums, from the last column on: its inverse is U, and no inverse of the sums themselves is needed.
  for (let j = width - 1; j >= 0; j--) {
    const row = j * width;
    const rest = width - 1 - j;
    if (isOurs(j)) {
      sums[row + j] = Math.sqrt(sums[row + j]! - dot(sums, row + j + 1, row + j + 1, rest));
      Atomics.store(ready, j, 1);
      Atomics.notify(ready, j);
    }
    isThere(j);
    for (let i = part; i < j; i += parts) {
      const at = i * width + j;
      sums[at] = (sums[at]! - dot(sums, at + 1, row + j + 1, rest)) / sums[row + j]!;
    }
  }
  for (let row = 0; row < width; row++) isThere(row);
  for (let first = part * besides; first < width; first += parts * besides)
    invertColumns(sums, made, width, { first, end: Math.min(width, first + besides) });
}

/** Columns of the inverse of an upper triangle, from its diagonal up. */
function invertColumns(
  triangle: Float64Array,
  made: Float64Array,
  width: number,
  { first, end }: { readonly first: number; readonly end: number },
): void {
  const sums = new Float64Array(end - first);
  for (let i = end - 1; i >= 0; i--) {
    const row = i * width;
    sums.fill(0);
    for (let k = i + 1; k < end; k++) {
      const factor = triangle[row + k]!;
      for (let j = Math.max(k, first); j < end; j++) sums[j - first]! += factor * made[k * width + j]!;
    }
    const diagonal = 1 / triangle[row + i]!;
    if (i >= first) made[row + i] = diagonal;
    for (let j = Math.max(i + 1, first); j < end; j++) made[row + j] = -diagonal * sums[j - first]!;
  }
}

function dot(x: Float64Array, a: number, b: number, n: number): number {
  let [s0, s1, s2, s3] = [0, 0, 0, 0];
  const whole = n - (n % 4);
  for (let i = 0; i < whole; i += 4) {
    s0 += x[a + i]! * x[b + i]!;
    s1 += x[a + i + 1]! * x[b + i + 1]!;
    s2 += x[a + i + 2]! * x[b + i + 2]!;
    s3 += x[a + i + 3]! * x[b + i + 3]!;
  }
  for (let i = whole; i < n; i++) s0 += x[a + i]! * x[b + i]!;
  return s0 + s1 + (s2 + s3);
}

/** How numbers that share a scale become codes of a byte. */
interface Grid {
  /** Numbers that share a scale; null: a row does. */
  readonly group: number | null;
  /** Their scale and codes, where nothing but they count. */
  readonly choose: (values: Float32Array) => { readonly codes: Uint8Array; readonly scale: number };
  /** The code nearest to a number in the unit of its scale. */
  readonly nearest: (x: number) => number;
  /** The number of each code. */
  readonly numbers: Float64Array;
}

const wholeGrid = (format: 'int8' | 'int4', least: number, most: number): Grid => ({
  group: groupColumns,
  choose: (values) => {
    const { levels, scales } = levelsOfBlocks(format, values, values.length);
    return { codes: new Uint8Array(levels.buffer), scale: scales[0]! };
  },
  nearest: (x) => Math.max(least, Math.min(most, Math.floor(x + 0.5))) & 255,
  numbers: Float64Array.from(new Int8Array(256).map((_, code) => code)),
});

const grids: Readonly<Record<WrittenFormat, Grid>> = {
  int8: wholeGrid('int8', -127, 127),
  int4: wholeGrid('int4', -8, 7),
  fp8: {
    group: null,
    choose: (values) => {
      const { codes, scales } = fp8Rows(values, values.length);
      return { codes, scale: scales[0]! };
    },
    nearest: toFp8,
    numbers: Float64Array.from({ length: 256 }, (_, code) => fromFp8(code)),
  },
};

/** Rows that are rounded together, so that a row of the triangle is read once for all of them. */
const together = 16;

/** Rows [width] of a matrix as packed codes with their scales, and the numbers that these stand for. The scale of a group is chosen from what its numbers
 *  have become when its first column is reached. Rows know nothing of each other. @param factor what factorise made, [width, width] */
export function roundByInputs(
  format: WrittenFormat,
  values: Float32Array,
  width: number,
  factor: Float64Array,
): { readonly codes: Uint8Array; readonly scales: Float64Array; readonly numbers: Float32Array } {
  const grid = grids[format];
  const rows = values.length / width;
  const group = grid.group ?? width;
  const codes = new Uint8Array(values.length);
  const scales = new Float64Array(values.length / group);
  const numbers = new Float32Array(values.length);
  for (let first = 0; first < rows; first += together) {
    const count = Math.min(together, rows - first);
    const left = Float64Array.from(values.subarray(first * width, (first + count) * width));
    /** As they were when their scale was chosen. */
    const begun = new Float64Array(count * width);
    for (let column = 0; column < width; column++) {
      for (let r = 0; r < count; r++) {
        const at = r * width + column;
        const out = first * width + at;
        const place = Math.floor(out / group);
        if (column % group === 0) {
          const chosen = grid.choose(Float32Array.from(left.subarray(at, at + group)));
          begun.set(left.subarray(at, at + group), at);
          codes.set(chosen.codes, out);
          scales[place] = chosen.scale;
        }
        const scale = scales[place]!;
        // A number that no error has reached keeps the code that came with the scale: without activations to tell, rounding is what it is elsewhere.
        if (left[at] !== begun[at]) codes[out] = scale === 0 ? 0 : grid.nearest(left[at]! / scale);
        const number = grid.numbers[codes[out]!]! * scale;
        numbers[out] = number;
        const error = (left[at]! - number) / factor[column * width + column]!;
        if (error !== 0) handOn(left, at, error, factor, column * width + column, width - column);
      }
    }
  }
  const packed = format === 'fp8' ? codes : packLevels(format, new Int8Array(codes.buffer));
  return { codes: packed, scales, numbers };
}

/** Takes the error of the first of n numbers from those behind it. */
function handOn(
  left: Float64Array,
  at: number,
  error: number,
  factor: Float64Array,
  from: number,
  n: number,
) {
  for (let i = 1; i < n; i++) left[at + i]! -= error * factor[from + i]!;
}
