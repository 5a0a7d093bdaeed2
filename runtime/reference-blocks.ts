// Weights in blocks for the oracle: what int8 and int4 make of numbers, in plain loops, sharing no code with the loader.

/** Formats of matrices: of int8 and int4 each matrix is rounded; all others are what they are. */
export interface ReferenceFormats {
  readonly layers: string;
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
          ? formats.layers
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
  const round = rounders[format];
  if (!round) throw new Error(`the reference has no format ${format}`);
  const out = new Float32Array(values.length);
  for (let row = 0; row < values.length; row += columns) {
    for (let from = row; from < row + columns; from += 32) {
      const to = Math.min(from + 32, row + columns);
      out.set(round(values.subarray(from, to)), from);
    }
  }
  return out;
}

/** int8 as ggml makes Q8_0. int4: the largest number goes to each of a few ends, in steps; with the scale of least squared error for the
 *  levels that follow, the end that loses least is taken. Every step is in float32; the scale is kept as float16. */
const rounders: Readonly<Record<string, (block: Float32Array) => Float32Array>> = {
  int8: (block) => {
    let most = 0;
    for (const x of block) most = Math.max(most, Math.abs(x));
    const d = Math.fround(most / 127);
    const inverse = d === 0 ? 0 : Math.fround(1 / d);
    const scale = nearestHalf(d);
    return block.map((x) => {
      const y = Math.fround(x * inverse);
      return scale * Math.sign(y) * Math.floor(Math.abs(y) + 0.5);
    });
  },
  int4: (block) => {
    let most = 0;
    for (const x of block) if (Math.abs(x) > Math.abs(most)) most = x;
    if (Math.abs(most) < 2 ** -24) return new Float32Array(block.length);
    const toGrid = Math.fround(65536 / most);
    const grid = Array.from(block, (x) => Math.trunc(Math.fround(x * toGrid)));
    let best = { kept: -1, scale: 0, levels: grid };
    for (const end of [-8.875, -8.5, -8.125, -7.75, -7.25]) {
      const levels = grid.map((x) => Math.max(-8, Math.min(7, Math.floor((x * end) / 65536 + 0.5))));
      let [products, squares] = [0, 0];
      for (const [i, level] of levels.entries()) {
        products += grid[i]! * level;
        squares += level * level;
      }
      const kept = (products * products) / squares;
      if (kept > best.kept) best = { kept, scale: Math.fround(products / squares), levels };
    }
    const scale = nearestHalf(Math.fround(best.scale * Math.fround(most / 65536)));
    return Float32Array.from(best.levels, (level) => scale * level);
  },
};

/** The float16 nearest to x, ties to even; infinite from 65520 on. */
export function nearestHalf(x: number): number {
  const size = Math.abs(x);
  if (size >= 65520) return Math.sign(x) * Number.POSITIVE_INFINITY;
  const step = 2 ** (Math.max(-14, Math.floor(Math.log2(size))) - 10);
  const steps = size / step;
  const below = Math.floor(steps);
  const rest = steps - below;
  const up = rest > 0.5 || (rest === 0.5 && below % 2 === 1);
  return Math.sign(x) * (below + (up ? 1 : 0)) * step;
}
