// Weights in blocks for the oracle: what int8, int4, int4-asym and fp8 make of numbers, in plain loops, sharing no code with the loader.

/** Formats of matrices: of those in blocks each matrix is rounded; all others are what they are. */
export interface ReferenceFormats {
  readonly layers: string;
  /** Of query, key and value, and of the last matrix of a layer, where it is another. */
  readonly qkv?: string | undefined;
  readonly down?: string | undefined;
  readonly embedding: string;
  readonly head: string;
}

/** The format in blocks that a tensor is rounded to; null: none. */
export function blocksOf(formats: ReferenceFormats | undefined, tensor: string): string | null {
  if (!formats) return null;
  const format =
    tensor === 'model.embed_tokens.weight'
      ? formats.embedding
      : tensor === 'lm_head.weight'
        ? formats.head
        : /_proj\.weight$/.test(tensor)
          ? (/\.(?:[qkv]|qkv)_proj\./.test(tensor) && formats.qkv) ||
            (/\.down_proj\./.test(tensor) && formats.down) ||
            formats.layers
          : '';
  return Object.hasOwn(rounders, format) ? format : null;
}

/** Elements of a row of a matrix. */
export function columnsOf(
  { hidden, ffn, qHeads, headDim }: Readonly<Record<'hidden' | 'ffn' | 'qHeads' | 'headDim', number>>,
  tensor: string,
): number {
  if (tensor.endsWith('.o_proj.weight')) return qHeads * headDim;
  return tensor.endsWith('.down_proj.weight') ? ffn : hidden;
}

/** The numbers that blocks of 32 along rows [columns] stand for; the last block of a row may be shorter. */
export function roundToBlocks(format: string, values: Float32Array, columns: number): Float32Array {
  const numbers = new Float32Array(values.length);
  forBlocks(format, values, columns, numbers, ({ scale, least }, from, to) => {
    for (let i = from; i < to; i++) numbers[i] = numbers[i]! * scale + least;
  });
  return numbers;
}

/** Whole numbers with the scales of blocks of 32 along rows [columns], a float16 each and in order: their products are the numbers. Where a
 *  number of a block is not finite, its scale is none either. */
export function levelsOfBlocks(
  format: 'int8' | 'int4',
  values: Float32Array,
  columns: number,
): { readonly levels: Int8Array; readonly scales: Float64Array } {
  const levels = new Int8Array(values.length);
  const scales = new Float64Array((values.length / columns) * Math.ceil(columns / 32));
  let block = 0;
  forBlocks(format, values, columns, levels, ({ scale }) => {
    scales[block++] = scale;
  });
  return { levels, scales };
}

/** Sets the levels of all values, and gives the grid of each block in order, with its place. */
function forBlocks(
  format: string,
  values: Float32Array,
  columns: number,
  levels: Levels,
  use: (grid: Grid, from: number, to: number) => void,
): void {
  const round = rounders[format];
  if (!round) throw new Error(`the reference has no format ${format}`);
  for (let row = 0; row < values.length; row += columns) {
    for (let from = row; from < row + columns; from += 32) {
      const to = Math.min(from + 32, row + columns);
      use(round(values, from, to, levels), from, to);
    }
  }
}

type Levels = Int8Array | Float32Array;
/** Numbers are level * scale + least. */
interface Grid {
  readonly scale: number;
  readonly least: number;
}
/** Sets the levels of values [from, to), and gives their grid. */
type Rounder = (values: Float32Array, from: number, to: number, levels: Levels) => Grid;

const gridOf = (format: string, scale: number): Grid => ({ scale: scaleOf(format, scale), least: 0 });

/** int8 as ggml makes Q8_0, int4-asym as it makes Q4_1. fp8: the largest number goes to the one of a few places that loses
 *  least. int4: the largest number goes to each of a few ends, in steps; with the scale of least squared error for the
 *  levels that follow, the end that loses least is taken. Every step is in float32; the scale is kept as float16. */
const rounders: Readonly<Record<string, Rounder>> = {
  int8: (values, from, to, levels) => {
    const d = Math.fround(Math.abs(largestOf(values, from, to)) / 127);
    const inverse = d === 0 ? 0 : Math.fround(1 / d);
    for (let i = from; i < to; i++) {
      const y = Math.fround(values[i]! * inverse);
      levels[i] = y < 0 ? -Math.floor(0.5 - y) : Math.floor(y + 0.5);
    }
    return gridOf('int8', d);
  },
  fp8: (values, from, to, levels) => {
    const most = Math.abs(largestOf(values, from, to));
    if (most <= 2 ** -24) return gridOf('fp8', 0);
    const toGrid = Math.fround(65536 / most);
    for (let i = from; i < to; i++) grid[i - from] = Math.fround(values[i]! * toGrid);
    let [best, least] = [Number.NaN, Number.POSITIVE_INFINITY];
    for (const top of tops) {
      let lost = 0;
      for (let i = 0; i < to - from; i++) {
        const y = grid[i]! * (top / 65536);
        lost += Math.trunc((y - nearest(y, -6, 3)) * 32) ** 2;
      }
      if (lost / (top / 16) ** 2 >= least) continue;
      least = lost / (top / 16) ** 2;
      best = top;
    }
    const d = Math.fround(most / best);
    const inverse = Math.fround(1 / d);
    for (let i = from; i < to; i++) levels[i] = nearest(Math.fround(values[i]! * inverse), -6, 3);
    return gridOf('fp8', d);
  },
  int4: (values, from, to, levels) => {
    const most = largestOf(values, from, to);
    if (Math.abs(most) < 2 ** -24) return gridOf('int4', 0);
    const toGrid = Math.fround(65536 / most);
    for (let i = from; i < to; i++) grid[i - from] = Math.fround(values[i]! * toGrid);
    let [best, kept, bestScale] = [0, -1, Number.NaN];
    for (const end of ends) {
      let [products, squares] = [0, 0];
      for (let i = 0; i < to - from; i++) {
        const level = fourBits(grid[i]!, end);
        products += grid[i]! * level;
        squares += level * level;
      }
      if ((products * products) / squares <= kept) continue;
      kept = (products * products) / squares;
      bestScale = Math.fround(products / squares);
      best = end;
    }
    for (let i = from; i < to; i++) levels[i] = fourBits(grid[i - from]!, best);
    return gridOf('int4', Math.fround(bestScale * Math.fround(most / 65536)));
  },
  'int4-asym': (values, from, to, levels) => {
    // Padding of a row is zeros.
    const numbers = Float32Array.from({ length: 32 }, (_, i) => (from + i < to ? values[from + i]! : 0));
    if (!numbers.every(Number.isFinite)) return { scale: Number.NaN, least: 0 };
    const [least, most] = [Math.min(...numbers), Math.max(...numbers)];
    const d = Math.fround(Math.fround(most - least) / 15);
    const inverse = d < 2 ** -25 ? 0 : Math.fround(1 / d);
    for (let i = from; i < to; i++) {
      const y = Math.fround(Math.fround(values[i]! - least) * inverse);
      levels[i] = Math.min(15, Math.floor(Math.fround(y + 0.5)));
    }
    return { scale: scaleOf('int4-asym', d), least: nearestHalf(least) };
  },
};

/** The numbers of a block on the grid of 2^-16 of its largest. */
const grid = new Int32Array(32);
const tops = [448, 416, 384, 352, 320, 288, 256, 240];
const ends = [-8.875, -8.5, -8.125, -7.75, -7.25];
/** The nearest level of a number of the grid, from -8 to 7. */
function fourBits(x: number, end: number): number {
  const level = Math.floor(x * (end / 65536) + 0.5);
  return level > 7 ? 7 : Math.max(level, -8);
}

/** That of the largest size, the first of several; NaN where one is not finite. */
function largestOf(values: Float32Array, from: number, to: number): number {
  let most = 0;
  for (let i = from; i < to; i++) {
    const x = values[i]!;
    if (!Number.isFinite(x)) return Number.NaN;
    if (Math.abs(x) > Math.abs(most)) most = x;
  }
  return most;
}

/** The float16 nearest to x, ties to even; infinite from 65520 on. */
export const nearestHalf = (x: number): number =>
  Math.abs(x) >= 65520 ? Math.sign(x) * Number.POSITIVE_INFINITY : nearest(x, -14, 10);

/** What a block keeps of a scale: a float16, of fp8 of its 256-fold. */
export const scaleOf = (format: string, scale: number): number =>
  format === 'fp8' ? nearestHalf(256 * scale) / 256 : nearestHalf(scale);

/** The number nearest to x of a format with so many bits of fraction, ties to even. @param least exponent of a number that is not subnormal */
function nearest(x: number, least: number, fraction: number): number {
  const size = Math.abs(x);
  const step = 2 ** (Math.max(least, Math.floor(Math.log2(size))) - fraction);
  const steps = size / step;
  const below = Math.floor(steps);
  const rest = steps - below;
  const up = rest > 0.5 || (rest === 0.5 && below % 2 === 1);
  return Math.sign(x) * (below + (up ? 1 : 0)) * step;
}
