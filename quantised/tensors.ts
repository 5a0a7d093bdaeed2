// The tensors of a quantised checkpoint as matrices: codes, with the scales and zero points that stand beside them.

import { closeSync, openSync } from 'node:fs';
import { gather, OnelaunchError } from '../errors.ts';
import { readInto } from '../files/plain-file.ts';
import type { Quantisation } from './config.ts';

/** One tensor of a file, row-major. */
interface Stored {
  readonly file: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  /** First byte, counted from the start of the file. */
  readonly offset: number;
  readonly bytes: number;
}

/** Of a matrix of codes: number = (code - zero point) * scale. */
export interface Packed {
  readonly scales: Stored;
  readonly zeros: Stored | null;
  readonly zerosAdded: 0 | 1;
  /** Rows of the matrix in the file, of which these may be some. */
  readonly fileRows: number;
  /** Rows and columns that share a scale. */
  readonly group: { readonly rows: number; readonly columns: number };
  /** Blocks that have these codes; their scales, and minima, are kept in fp16. */
  readonly levels: 'int8' | 'int4' | 'int4-asym' | 'fp8' | null;
}

/** Names of the tensors that one matrix is made of; those of compressed-tensors and fp8 stand in the place of its weight. */
interface Parts {
  readonly codes: string;
  readonly dtype: string;
  readonly scales: string;
  readonly zeros: string;
  /** Read here, or needless once it was checked. */
  readonly others: readonly string[];
}

const compressed = { scales: 'weight_scale', zeros: 'weight_zero_point' };
const partsOf: Readonly<Record<Quantisation['format'], Parts>> = {
  fp8: {
    codes: 'weight',
    dtype: 'F8_E4M3',
    scales: 'weight_scale_inv',
    zeros: '',
    others: ['activation_scale'],
  },
  gptq: { codes: 'qweight', dtype: 'I32', scales: 'scales', zeros: 'qzeros', others: ['g_idx'] },
  awq: { codes: 'qweight', dtype: 'I32', scales: 'scales', zeros: 'qzeros', others: [] },
  'pack-quantized': {
    codes: 'weight_packed',
    dtype: 'I32',
    ...compressed,
    others: ['weight_shape', 'weight_g_idx'],
  },
  'int-quantized': { codes: 'weight', dtype: 'I8', ...compressed, others: [] },
  'float-quantized': { codes: 'weight', dtype: 'F8_E4M3', ...compressed, others: [] },
};
/** Scales of activations, which are not rounded here. */
const ofActivations = ['input_scale', 'output_scale', 'input_zero_point', 'k_scale', 'v_scale'];

const again = "Copy the files from the model's own repository again, config.json too.";

/** Those of a checkpoint, with each quantised matrix as one entry of its codes, called as it would be called unquantised.
 *  @throws OnelaunchError of kind usage for parts that are missing or do not fit each other */
export function unpackedTensors<Entry extends Stored>(
  tensors: ReadonlyMap<string, Entry>,
  quantisation: Quantisation,
): Map<string, Entry & { readonly packed?: Packed }> {
  const parts = partsOf[quantisation.format];
  const matrices = [...tensors].flatMap(([name, { dtype, shape }]) => {
    const isCodes =
      name.endsWith(`.${parts.codes}`) && (parts.codes !== 'weight' || isQuantised(dtype, shape));
    return isCodes ? [name.slice(0, -parts.codes.length - 1)] : [];
  });
  const found = new Map<string, Entry & { readonly packed?: Packed }>(tensors);
  const errors: OnelaunchError[] = [];
  if (matrices.length === 0) {
    const text = `config.json says ${quantisation.format}, and no tensor is called ${parts.codes} with codes of it`;
    errors.push(new OnelaunchError('usage', text, { hint: again }));
  }
  for (const matrix of matrices) {
    try {
      const entry = matrixOf(tensors, matrix, quantisation);
      for (const part of [parts.codes, parts.scales, parts.zeros, ...parts.others, ...ofActivations])
        found.delete(`${matrix}.${part}`);
      found.set(`${matrix}.weight`, entry);
    } catch (error) {
      if (!(error instanceof OnelaunchError)) throw error;
      errors.push(error);
    }
  }
  // What is wrong with one matrix is so with all: a few of them say it.
  if (errors.length > 0) throw gather(errors.slice(0, 3));
  return found;
}

const isQuantised = (dtype: string, shape: readonly number[]) =>
  shape.length === 2 && !['BF16', 'F16', 'F32', 'F64'].includes(dtype);

function matrixOf<Entry extends Stored>(
  tensors: ReadonlyMap<string, Entry>,
  matrix: string,
  { format, bits, group, symmetric, zerosAdded }: Quantisation,
): Entry & { readonly packed: Packed } {
  const names = partsOf[format];
  const codes = tensors.get(`${matrix}.${names.codes}`)!;
  const refuse = (text: string, hint = again) =>
    new OnelaunchError('usage', `${codes.file}: ${text}`, { hint });
  const check = (
    part: string,
    stored: Stored,
    dtypes: readonly string[],
    shapes: readonly (readonly number[])[],
  ) => {
    const name = `${matrix}.${part}`;
    if (!dtypes.includes(stored.dtype))
      throw refuse(`${name} is ${stored.dtype}, ${dtypes.join(' or ')} is needed`);
    if (!shapes.some((shape) => shape.join() === stored.shape.join()))
      throw refuse(`${name} is [${stored.shape.join(', ')}], [${shapes[0]!.join(', ')}] is needed`);
  };
  if (codes.shape.length !== 2)
    throw refuse(`${matrix}.${names.codes} is [${codes.shape.join(', ')}], not a matrix`);
  check(names.codes, codes, [names.dtype], [codes.shape]);
  const [rows, columns] = sizeOf(format, bits, codes.shape as readonly [number, number]);
  const isTurned = format === 'gptq' || format === 'awq';
  if (columns % 8 !== 0 || (isTurned && rows % 8 !== 0))
    throw refuse(`${matrix} is [${rows}, ${columns}], which is not whole words of eight codes`, useOther);
  const shared = { rows: group.rows ?? rows, columns: group.columns ?? columns };
  const groups = Math.ceil(columns / shared.columns);
  // Only blocks of fp8 may end within a matrix.
  if (columns % shared.columns !== 0 && shared.rows === 1)
    throw refuse(`${matrix} has ${columns} columns, which are not whole groups of ${shared.columns}`);

  const scales = tensors.get(`${matrix}.${names.scales}`);
  if (scales === undefined) throw refuse(`${matrix}.${names.scales} is missing`);
  const lines = Math.ceil(rows / shared.rows);
  const one = lines * groups === 1 ? [[], [1]] : [];
  const flat = groups === 1 ? [[lines]] : [];
  check(
    names.scales,
    scales,
    ['F16', 'BF16', 'F32'],
    isTurned ? [[groups, rows]] : [[lines, groups], ...flat, ...one],
  );

  const zeros = tensors.get(`${matrix}.${names.zeros}`) ?? null;
  const needsZeros = isTurned || !symmetric;
  if (needsZeros && zeros === null) throw refuse(`${matrix}.${names.zeros} is missing`);
  if (zeros !== null && isTurned) check(names.zeros, zeros, ['I32'], [[groups, (rows * bits) / 32]]);
  const usesZeros = zeros !== null && needsZeros;
  if (zeros !== null && !needsZeros && !areZeros(zeros, bits))
    throw refuse(
      `${matrix}.${names.zeros} is not all zeros, and config.json says that the codes are symmetric`,
    );
  if (usesZeros && format === 'int-quantized') {
    if (shared.rows !== 1) throw refuse(`${matrix}.${names.zeros} is of a whole matrix`, useOther);
    check(names.zeros, zeros, ['I8'], [[rows, groups], ...(groups === 1 ? [[rows]] : [])]);
  }
  if (usesZeros && format === 'pack-quantized')
    check(names.zeros, zeros, ['I32'], [[Math.ceil((rows * bits) / 32), groups]]);

  const shapeTensor = tensors.get(`${matrix}.weight_shape`);
  if (format === 'pack-quantized' && shapeTensor !== undefined) {
    const said = integersOf(shapeTensor);
    if (said.join() !== `${rows},${columns}`)
      throw refuse(
        `${matrix}.weight_shape says [${said.join(', ')}], the codes are of [${rows}, ${columns}]`,
      );
  }
  if (tensors.has(`${matrix}.weight_g_idx`))
    throw refuse(`${matrix}.weight_g_idx puts columns in another order`, useOther);
  const order = tensors.get(`${matrix}.g_idx`);
  if (format === 'gptq' && order !== undefined) {
    check('g_idx', order, ['I32'], [[columns]]);
    const wrong = integersOf(order).findIndex(
      (index, column) => index !== Math.floor(column / shared.columns),
    );
    if (wrong >= 0)
      throw refuse(`${matrix}.g_idx puts column ${wrong} in another group than its place says`, useOther);
  }
  const isWhole = shared.columns % 32 === 0 && columns % 32 === 0;
  const isFloat = names.dtype === 'F8_E4M3';
  // GPTQ stores zero points in any case: what they are is not what `sym` says of them.
  const isMiddle = symmetric && (format !== 'gptq' || areMiddle(zeros!, bits, zerosAdded));
  const ofBits = isFloat ? 'fp8' : bits === 8 ? 'int8' : isMiddle ? 'int4' : 'int4-asym';
  const levels = isWhole && (isMiddle || bits === 4) ? ofBits : null;
  const packed: Packed = {
    ...{ scales, zeros: usesZeros ? zeros : null, zerosAdded },
    ...{ fileRows: rows, group: shared, levels },
  };
  return { ...codes, dtype: nameOf(format, bits), shape: [rows, columns], packed };
}

const useOther = 'Use the unquantized checkpoint of this model.';

/** [rows, columns] of the matrix that codes of this shape are of. */
function sizeOf(
  format: Quantisation['format'],
  bits: number,
  [first, second]: readonly [number, number],
): readonly [number, number] {
  const inWord = 32 / bits;
  if (format === 'gptq') return [second, first * inWord];
  if (format === 'awq') return [second * inWord, first];
  return format === 'pack-quantized' ? [first, second * inWord] : [first, second];
}

/** As notes call it. */
function nameOf(format: Quantisation['format'], bits: number): string {
  if (format === 'gptq') return `GPTQ int${bits}`;
  if (format === 'awq') return 'AWQ int4';
  if (format === 'pack-quantized') return `packed int${bits}`;
  return format === 'int-quantized' ? 'int8' : 'fp8';
}

/** Whether the zero points of packed codes are all their middle. */
function areMiddle(zeros: Stored, bits: 4 | 8, added: 0 | 1): boolean {
  const byte = bits === 4 ? (8 - added) * 0x11 : 128 - added;
  return dataOf(zeros).equals(Buffer.alloc(zeros.bytes, byte));
}

/** Whether zero points that symmetric codes have beside them, as some files do, are none: zeros, or in words the middle of their codes,
 *  with zeros behind the last row. */
function areZeros(zeros: Stored, bits: 4 | 8): boolean {
  const middles = bits === 4 ? [0x08, 0x80, 0x88] : [0x80];
  const none = [0, ...(zeros.dtype === 'I32' ? middles : [])];
  return dataOf(zeros).every((byte) => none.includes(byte));
}

/** The whole numbers of a short tensor of I32 or I64. */
function integersOf(tensor: Stored): number[] {
  const data = dataOf(tensor);
  const width = tensor.dtype === 'I64' ? 8 : 4;
  return Array.from({ length: data.length / width }, (_, i) =>
    width === 8 ? Number(data.readBigInt64LE(i * 8)) : data.readInt32LE(i * 4),
  );
}

function dataOf({ file, offset, bytes }: Stored): Buffer {
  const data = Buffer.alloc(bytes);
  const fd = openSync(file, 'r');
  try {
    readInto(data, fd, file, offset);
  } finally {
    closeSync(fd);
  }
  return data;
}
