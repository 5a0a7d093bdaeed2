// Matrices of quantised checkpoints for the oracle: number by number from the definitions of the formats, sharing no code with the loader.
// Written from pack_quantized.py of compressed-tensors, qlinear_cuda_old.py of AutoGPTQ, packing_utils.py of AutoAWQ, and FP8Linear of transformers.

interface Part {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: ArrayBuffer;
}
/** A tensor of the checkpoint; undefined: there is none. */
type Find = (name: string) => Part | undefined;
type Json = Readonly<Record<string, unknown>>;

/** Of a matrix, code minus zero point, and scale, by row and column; `zero`: the zero point of codes from 0 on, and the one that blocks of `levels` have. */
interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly levels: string;
  readonly middle: number;
  /** Columns that share a scale; no fewer than all where it is one for a row. */
  readonly along: number;
  readonly level: (row: number, column: number) => number;
  readonly scale: (row: number, column: number) => number;
  readonly zero: (row: number, column: number) => number;
}

/** The numbers of a matrix whose codes are in a checkpoint; null: it is stored as numbers. Blocks of 32 of a format of blocks that has
 *  these codes keep them, NaN in `kept` where they do not.
 *  @param scaleOf what a block of a format keeps of a scale @throws Error naming what is unknown */
export function expandQuantised(
  find: Find,
  name: string,
  config: Json,
  format: string | null,
  scaleOf: (format: string, scale: number) => number,
): { readonly values: Float32Array; readonly kept: Float32Array | null } | null {
  const matrix = matrixOf(find, name.replace(/\.weight$/, ''), config);
  if (matrix === null) return null;
  const { rows, columns } = matrix;
  const values = new Float32Array(rows * columns);
  const isWhole = columns % 32 === 0 && Math.min(matrix.along, columns) % 32 === 0;
  const isAsym = format === 'int4-asym' && matrix.levels.startsWith('int4');
  const isKept = isWhole && (isAsym || format === matrix.levels);
  const kept = isKept ? new Float32Array(rows * columns).fill(Number.NaN) : null;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const [level, scale] = [matrix.level(row, column), matrix.scale(row, column)];
      values[row * columns + column] = Math.fround(level * scale);
      if (!kept) continue;
      const [zero, step] = [matrix.zero(row, column), scaleOf(format!, scale)];
      if (isAsym)
        kept[row * columns + column] = (level + zero) * step - scaleOf(format!, Math.fround(zero * scale));
      else if (zero === matrix.middle) kept[row * columns + column] = level * step;
    }
  }
  return { values, kept };
}

function matrixOf(find: Find, name: string, config: Json): Matrix | null {
  switch (config['quant_method']) {
    case 'gptq':
      return turned(find, name, config, { bits: config['bits'] as number, isAwq: false });
    case 'awq':
      return turned(find, name, config, { bits: 4, isAwq: true });
    case 'fp8':
      return straight(find, name, 'weight_scale_inv', config['weight_block_size'] as number[] | undefined);
    case 'compressed-tensors':
    case 'compressed_tensors': {
      const [group] = Object.values(config['config_groups'] as Record<string, Json>);
      const weights = group!['weights'] as Json;
      const size = weights['group_size'] as number;
      const sizes: Record<string, number[] | undefined> = {
        ...{ channel: [1, Number.POSITIVE_INFINITY], group: [1, size], tensor: undefined },
        block: weights['block_structure'] as number[],
      };
      return straight(find, name, 'weight_scale', sizes[weights['strategy'] as string], {
        bits: weights['num_bits'] as number,
        isSymmetric: weights['symmetric'] === true,
      });
    }
    default:
      throw new Error(`the reference has no quant_method ${String(config['quant_method'])}`);
  }
}

/** GPTQ and AWQ: a column of the matrix is a row of the file. */
function turned(
  find: Find,
  name: string,
  config: Json,
  { bits, isAwq }: { readonly bits: number; readonly isAwq: boolean },
): Matrix | null {
  const codes = find(`${name}.qweight`);
  if (!codes) return null;
  const [scales, zeros] = [find(`${name}.scales`)!, find(`${name}.qzeros`)!];
  const inWord = 32 / bits;
  const rows = scales.shape[1]!;
  const columns = isAwq ? codes.shape[0]! : codes.shape[0]! * inWord;
  const size = config['group_size'] as number;
  const group = (column: number) => (size === -1 ? 0 : Math.floor(column / size));
  const order = isAwq ? [0, 4, 1, 5, 2, 6, 3, 7] : Array.from({ length: inWord }, (_, i) => i);
  const [codeAt, zeroAt, scaleAt] = [wordsOf(codes), wordsOf(zeros), numbersOf(scales)];
  const cut = (word: number, place: number) => (word >>> (bits * place)) & (2 ** bits - 1);
  // AutoGPTQ stores a zero point less one.
  const added = isAwq || config['checkpoint_format'] === 'gptq_v2' ? 0 : 1;
  const zero = (row: number, column: number) =>
    cut(zeroAt(group(column) * (rows / inWord) + Math.floor(row / inWord)), order[row % inWord]!) + added;
  const code = (row: number, column: number) =>
    isAwq
      ? cut(codeAt(column * (rows / 8) + Math.floor(row / 8)), order[row % 8]!)
      : cut(codeAt(Math.floor(column / inWord) * rows + row), column % inWord);
  return {
    ...{ rows, columns, along: size === -1 ? columns : size, middle: 2 ** (bits - 1) },
    // Blocks of AWQ are never symmetric: its zero points are anywhere.
    levels: isAwq ? 'int4-asym' : `int${bits}`,
    level: (row, column) => code(row, column) - zero(row, column),
    scale: (row, column) => scaleAt(group(column) * rows + row),
    zero,
  };
}

/** fp8 and compressed-tensors: rows as the matrix has them. @param block rows and columns that share a scale; undefined: all */
function straight(
  find: Find,
  name: string,
  scaleName: string,
  block: readonly number[] | undefined,
  { bits, isSymmetric } = { bits: 8, isSymmetric: true },
): Matrix | null {
  const packed = find(`${name}.weight_packed`);
  const codes = packed ?? find(`${name}.weight`);
  if (!codes || !['I32', 'I8', 'F8_E4M3'].includes(codes.dtype)) return null;
  const rows = codes.shape[0]!;
  const columns = codes.shape[1]! * (packed ? 32 / bits : 1);
  const [down, along] = block ?? [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  const groups = Math.ceil(columns / Math.min(along!, columns));
  const scaleAt = numbersOf(find(`${name}.${scaleName}`)!);
  const zeros = isSymmetric ? undefined : find(`${name}.weight_zero_point`);
  const middle = 2 ** (bits - 1);
  const cut = (word: number, place: number) => ((word >>> (bits * place)) & (2 ** bits - 1)) - middle;
  const inWord = 32 / bits;
  const [words, bytes] = [packed && wordsOf(packed), new DataView(codes.bytes)];
  const zero = (row: number, column: number): number => {
    if (!zeros) return 0;
    const group = Math.floor(column / Math.min(along!, columns));
    if (!packed) return new DataView(zeros.bytes).getInt8(row * groups + group);
    return cut(wordsOf(zeros)(Math.floor(row / inWord) * groups + group), row % inWord);
  };
  const code = (row: number, column: number): number => {
    if (words) return cut(words(row * codes.shape[1]! + Math.floor(column / inWord)), column % inWord);
    const at = row * columns + column;
    return codes.dtype === 'I8' ? bytes.getInt8(at) : fromFp8(bytes.getUint8(at));
  };
  return {
    ...{ rows, columns, levels: codes.dtype === 'F8_E4M3' ? 'fp8' : `int${bits}`, along: along!, middle },
    level: (row, column) => code(row, column) - zero(row, column),
    scale: (row, column) =>
      scaleAt(Math.floor(row / down!) * groups + Math.floor(column / Math.min(along!, columns))),
    zero: (row, column) => zero(row, column) + middle,
  };
}

function wordsOf({ bytes }: Part): (at: number) => number {
  const view = new DataView(bytes);
  return (at) => view.getUint32(at * 4, true);
}

function numbersOf({ dtype, bytes }: Part): (at: number) => number {
  const view = new DataView(bytes);
  if (dtype === 'F32') return (at) => view.getFloat32(at * 4, true);
  return (at) => {
    const bits = view.getUint16(at * 2, true);
    return dtype === 'BF16' ? floating(bits, 8, 7) : floating(bits, 5, 10);
  };
}

/** A number of a sign, so many bits of exponent and so many of fraction. */
function floating(bits: number, exponents: number, fractions: number): number {
  const sign = bits >> (exponents + fractions) ? -1 : 1;
  const exponent = (bits >> fractions) & (2 ** exponents - 1);
  const fraction = (bits & (2 ** fractions - 1)) / 2 ** fractions;
  const bias = 2 ** (exponents - 1) - 1;
  if (exponent === 2 ** exponents - 1) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (exponent === 0 ? fraction * 2 ** (1 - bias) : (1 + fraction) * 2 ** (exponent - bias));
}

/** E4M3 without infinities: its largest exponent is of numbers, too, but for the last. */
function fromFp8(bits: number): number {
  if ((bits & 127) === 127) return Number.NaN;
  const sign = bits & 128 ? -1 : 1;
  const [exponent, fraction] = [(bits >> 3) & 15, (bits & 7) / 8];
  return sign * (exponent === 0 ? fraction * 2 ** -6 : (1 + fraction) * 2 ** (exponent - 7));
}
