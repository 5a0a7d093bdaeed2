// Matrices as compressed-tensors stores them: which tensors one becomes, their bytes, and what config.json says of them.
// Source: pack_quantized.py and float_quantized.py of compressed-tensors.

/** Formats that a checkpoint can be written in. */
export const writtenFormats = ['int8', 'int4', 'fp8'] as const;
export type WrittenFormat = (typeof writtenFormats)[number];

/** Columns that share a scale; of fp8 a row does. */
export const groupColumns = 32;
const bitsOf = { int8: 8, int4: 4 } as const;

/** A tensor that a matrix becomes: what stands in the place of `weight` in its name. */
interface Part {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
}

/** Codes and scales of a matrix [rows, columns], of int8 and int4 whole groups along rows. */
export function partsOf(
  format: WrittenFormat,
  rows: number,
  columns: number,
): { readonly codes: Part; readonly scales: Part; readonly shape?: Part } {
  if (format === 'fp8') {
    return {
      codes: { name: 'weight', dtype: 'F8_E4M3', shape: [rows, columns] },
      scales: { name: 'weight_scale', dtype: 'BF16', shape: [rows, 1] },
    };
  }
  return {
    codes: { name: 'weight_packed', dtype: 'I32', shape: [rows, (columns * bitsOf[format]) / 32] },
    scales: { name: 'weight_scale', dtype: 'F16', shape: [rows, columns / groupColumns] },
    shape: { name: 'weight_shape', dtype: 'I64', shape: [2] },
  };
}

/** Levels as codes in words, from the lowest bits on: level + 128, or level + 8. */
export function packLevels(format: 'int8' | 'int4', levels: Int8Array): Uint8Array {
  const bytes = new Uint8Array((levels.length * bitsOf[format]) / 8);
  if (format === 'int8') {
    for (let i = 0; i < bytes.length; i++) bytes[i] = levels[i]! + 128;
    return bytes;
  }
  for (let i = 0; i < bytes.length; i++) bytes[i] = (levels[2 * i]! + 8) | ((levels[2 * i + 1]! + 8) << 4);
  return bytes;
}

/** The value of quantization_config in config.json. */
export function quantisationConfig(format: WrittenFormat): Readonly<Record<string, unknown>> {
  const isFloat = format === 'fp8';
  const weights = {
    ...{ num_bits: isFloat ? 8 : bitsOf[format], type: isFloat ? 'float' : 'int', symmetric: true },
    ...{ strategy: isFloat ? 'channel' : 'group', group_size: isFloat ? null : groupColumns },
    ...{ block_structure: null, dynamic: false, actorder: null, observer: 'minmax', observer_kwargs: {} },
  };
  const group = { targets: ['Linear'], weights, input_activations: null, output_activations: null };
  return {
    ...{ quant_method: 'compressed-tensors', quantization_status: 'compressed' },
    ...{ format: isFloat ? 'float-quantized' : 'pack-quantized', config_groups: { group_0: group } },
    ...{ ignore: ['lm_head'], kv_cache_scheme: null, global_compression_ratio: null },
  };
}

/** Of a float32 its exponent and 23 bits of fraction. */
const float = new Float32Array(1);
const floatBits = new Uint32Array(float.buffer);

/** 2^(3 - exponent), for exponents from -6 to 9: from there on all is 448. */
const eighthsOf = Float64Array.from({ length: 16 }, (_, i) => 2 ** (9 - i));

/** Bits of the number of fp8 e4m3 nearest to x, ties to even; 448 for what is larger. */
export function toFp8(x: number): number {
  float[0] = Math.abs(x);
  const exponent = Math.min(9, Math.max(-6, (floatBits[0]! >>> 23) - 127));
  // Eighths of the exponent's power: 8 to 15 of a normal number, and 16 is the next exponent's 8.
  const steps = float[0]! * eighthsOf[exponent + 6]!;
  const below = Math.floor(steps);
  const rest = steps - below;
  const eighths = below + (rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? 1 : 0);
  // A subnormal number has no exponent: its bits are its eighths.
  return Math.min(0x7e, (exponent + 6) * 8 + eighths) | (x < 0 ? 0x80 : 0);
}

/** The number of such bits, which are no NaN. */
export function fromFp8(bits: number): number {
  const [exponent, eighths] = [(bits >> 3) & 15, bits & 7];
  const size = exponent === 0 ? eighths * 2 ** -9 : (8 + eighths) * 2 ** (exponent - 10);
  return bits & 0x80 ? -size : size;
}

/** Rows of fp8: the largest number of a row becomes 448, by a scale that bf16 holds. */
export function fp8Rows(
  values: Float32Array,
  columns: number,
): { readonly codes: Uint8Array; readonly scales: Float64Array } {
  const codes = new Uint8Array(values.length);
  const scales = new Float64Array(values.length / columns);
  for (let row = 0; row < scales.length; row++) {
    let most = 0;
    for (let i = row * columns; i < (row + 1) * columns; i++) most = Math.max(most, Math.abs(values[i]!));
    const scale = nearestBf16(most / 448);
    scales[row] = Number.isFinite(most) ? scale : Number.NaN;
    for (let i = row * columns; scale > 0 && i < (row + 1) * columns; i++)
      codes[i] = toFp8(values[i]! / scale);
  }
  return { codes, scales };
}

/** The bf16 nearest to a positive number, ties to even. */
function nearestBf16(x: number): number {
  float[0] = x;
  const bits = floatBits[0]!;
  floatBits[0] = (bits + 0x7fff + ((bits >>> 16) & 1)) & 0xffff0000;
  return float[0]!;
}

/** Bits of numbers that the dtype holds exactly. */
export function scaleBytes(dtype: string, scales: Float64Array): Uint8Array {
  const bits = Uint16Array.from(scales, (x) => {
    if (dtype === 'BF16') {
      float[0] = x;
      return floatBits[0]! >>> 16;
    }
    const size = Math.abs(x);
    const sign = x < 0 ? 0x8000 : 0;
    const exponent = Math.max(-14, Math.floor(Math.log2(size)));
    if (size < 2 ** -14) return sign | (size * 2 ** 24);
    return sign | ((exponent + 15) << 10) | ((size / 2 ** exponent - 1) * 1024);
  });
  return new Uint8Array(bits.buffer);
}
