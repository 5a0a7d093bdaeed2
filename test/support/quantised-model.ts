// Quantised checkpoints made of a bf16 one, packed as the formats define it, and the numbers that they stand for.
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readReferenceModel } from '../../runtime/reference/weights.ts';
import { readTensors, writeSafetensors } from '../../runtime/weights/safetensors.ts';
import { decode, encode, round, toBytes } from './number-formats.ts';

type ScaleType = 'bf16' | 'fp16' | 'fp32';
export type Tensor = { dtype: string; shape: number[]; data: Uint8Array };

/** How matrices are quantised: [rows, columns] that share a scale, null for all. */
export interface Kind {
  readonly format: 'fp8' | 'gptq' | 'gptq_v2' | 'awq' | 'pack' | 'int' | 'float';
  readonly bits: 4 | 8;
  readonly group: readonly [number | null, number | null];
  readonly symmetric: boolean;
  readonly scales: ScaleType;
}

export const kinds: Readonly<Record<string, Kind>> = {
  'fp8, blocks of 128': { format: 'fp8', bits: 8, group: [128, 128], symmetric: true, scales: 'fp32' },
  'fp8, blocks that do not divide': {
    format: 'fp8',
    bits: 8,
    group: [96, 80],
    symmetric: true,
    scales: 'bf16',
  },
  'fp8, one scale': { format: 'fp8', bits: 8, group: [null, null], symmetric: true, scales: 'fp32' },
  'GPTQ of 4 bits, symmetric': { format: 'gptq', bits: 4, group: [1, 128], symmetric: true, scales: 'fp16' },
  'GPTQ of 4 bits, groups of 32': {
    format: 'gptq',
    bits: 4,
    group: [1, 32],
    symmetric: false,
    scales: 'fp16',
  },
  'GPTQ of 8 bits, a row': { format: 'gptq', bits: 8, group: [1, null], symmetric: true, scales: 'fp16' },
  'GPTQ, version 2': { format: 'gptq_v2', bits: 4, group: [1, 64], symmetric: false, scales: 'fp16' },
  'GPTQ of 8 bits, version 2': {
    format: 'gptq_v2',
    bits: 8,
    group: [1, 64],
    symmetric: false,
    scales: 'fp16',
  },
  'AWQ, groups of 128': { format: 'awq', bits: 4, group: [1, 128], symmetric: false, scales: 'fp16' },
  'AWQ, groups of 16': { format: 'awq', bits: 4, group: [1, 16], symmetric: false, scales: 'fp16' },
  'packed int4': { format: 'pack', bits: 4, group: [1, 32], symmetric: true, scales: 'bf16' },
  'packed int4, groups of 16': { format: 'pack', bits: 4, group: [1, 16], symmetric: true, scales: 'fp16' },
  'packed int4, zero points': { format: 'pack', bits: 4, group: [1, 64], symmetric: false, scales: 'bf16' },
  'packed int8, a row': { format: 'pack', bits: 8, group: [1, null], symmetric: true, scales: 'fp16' },
  'packed int8, zero points': { format: 'pack', bits: 8, group: [1, 128], symmetric: false, scales: 'fp32' },
  'int8, a row': { format: 'int', bits: 8, group: [1, null], symmetric: true, scales: 'bf16' },
  'int8, zero points': { format: 'int', bits: 8, group: [1, 32], symmetric: false, scales: 'fp32' },
  'int8, one scale': { format: 'int', bits: 8, group: [null, null], symmetric: true, scales: 'fp32' },
  'fp8 of compressed-tensors, a row': {
    format: 'float',
    bits: 8,
    group: [1, null],
    symmetric: true,
    scales: 'bf16',
  },
  'fp8 of compressed-tensors, blocks': {
    format: 'float',
    bits: 8,
    group: [128, 128],
    symmetric: true,
    scales: 'bf16',
  },
};

/** A change of what is written. */
// biome-ignore lint/suspicious/noExplicitAny: a config.json is edited in many places.
export type Edit = (tensors: Record<string, Tensor>, config: Record<string, any>) => void;

/** Writes the folder of a model with the matrices of its layers quantised.
 *  @param options.only of these matrices @param options.edit of what is written, for files that are wrong
 *  @returns the numbers of each matrix, before they are rounded to the dtype of the model */
export function writeQuantised(
  source: string,
  folder: string,
  kind: Kind,
  options: {
    readonly only?: (name: string) => boolean;
    readonly edit?: Edit;
  } = {},
): Map<string, Float32Array> {
  mkdirSync(folder, { recursive: true });
  for (const file of [
    'tokenizer.json',
    'tokenizer_config.json',
    'generation_config.json',
    'chat_template.jinja',
  ])
    cpSync(join(source, file), join(folder, file), {
      force: true,
      recursive: true,
      errorOnExist: false,
      filter: exists,
    });
  const { tensors: numbers } = readReferenceModel(source);
  const tensors: Record<string, Tensor> = {};
  const expected = new Map<string, Float32Array>();
  for (const [name, { file, dtype, shape, offset, bytes }] of readTensors(source)) {
    if (!name.endsWith('_proj.weight') || options.only?.(name) === false) {
      tensors[name] = { dtype, shape: [...shape], data: readFileSync(file).subarray(offset, offset + bytes) };
      continue;
    }
    const quantised = quantiseMatrix(numbers(name), shape as [number, number], kind);
    expected.set(name, quantised.values);
    for (const [part, tensor] of Object.entries(quantised.parts))
      tensors[`${name.replace(/weight$/, '')}${part}`] = tensor;
  }
  const config = JSON.parse(readFileSync(join(source, 'config.json'), 'utf8'));
  config['quantization_config'] = configOf(kind);
  options.edit?.(tensors, config);
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  writeSafetensors(join(folder, 'model.safetensors'), tensors);
  return expected;
}

const exists = (path: string) => {
  try {
    readFileSync(path);
    return true;
  } catch {
    return false;
  }
};

function configOf({ format, bits, group: [rows, columns], symmetric }: Kind): Record<string, unknown> {
  const group_size = columns ?? -1;
  switch (format) {
    case 'fp8':
      return {
        ...{ quant_method: 'fp8', fmt: 'e4m3', activation_scheme: 'dynamic' },
        weight_block_size: rows === null ? null : [rows, columns],
        modules_to_not_convert: ['lm_head'],
      };
    case 'gptq':
    case 'gptq_v2':
      return {
        quant_method: 'gptq',
        bits,
        group_size,
        desc_act: false,
        sym: symmetric,
        checkpoint_format: format,
      };
    case 'awq':
      return { quant_method: 'awq', bits, group_size, zero_point: true, version: 'gemm' };
    default: {
      const names = { pack: 'pack-quantized', int: 'int-quantized', float: 'float-quantized' };
      const strategy = rows === null ? 'tensor' : rows > 1 ? 'block' : columns === null ? 'channel' : 'group';
      const weights = {
        ...{ num_bits: bits, type: format === 'float' ? 'float' : 'int', symmetric, strategy },
        ...{ group_size: strategy === 'group' ? columns : null, actorder: null },
        block_structure: strategy === 'block' ? [rows, columns] : null,
      };
      return {
        ...{ quant_method: 'compressed-tensors', format: names[format], quantization_status: 'compressed' },
        ...{ ignore: ['lm_head'], kv_cache_scheme: null },
        config_groups: { group_0: { targets: ['Linear'], weights, input_activations: null } },
      };
    }
  }
}

function quantiseMatrix(values: Float32Array, [rows, columns]: [number, number], kind: Kind) {
  const { format, bits, symmetric, scales: scaleType } = kind;
  const [down, along] = [kind.group[0] ?? rows, kind.group[1] ?? columns];
  const [lines, groups] = [Math.ceil(rows / down), Math.ceil(columns / along)];
  const isFloat = format === 'fp8' || format === 'float';
  const middle = 2 ** (bits - 1);
  const scales = new Float64Array(lines * groups);
  const zeros = new Int32Array(lines * groups).fill(middle);
  for (let line = 0; line < lines; line++) {
    for (let group = 0; group < groups; group++) {
      let [least, most] = [0, 0];
      for (let row = line * down; row < Math.min(rows, (line + 1) * down); row++)
        for (let column = group * along; column < Math.min(columns, (group + 1) * along); column++) {
          least = Math.min(least, values[row * columns + column]!);
          most = Math.max(most, values[row * columns + column]!);
        }
      const at = line * groups + group;
      const largest = Math.max(-least, most, 1e-3);
      const step = isFloat
        ? largest / 448
        : symmetric
          ? largest / (middle - 1)
          : (most - least) / (2 * middle - 1);
      scales[at] = round(Math.max(step, 1e-4), scaleType);
      // A stored zero point of AutoGPTQ is one less.
      if (!symmetric) zeros[at] = Math.max(1, Math.min(2 * middle - 1, Math.round(-least / scales[at]!)));
    }
  }
  const codes = new Int32Array(rows * columns);
  const numbers = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const i = row * columns + column;
      const at = Math.floor(row / down) * groups + Math.floor(column / along);
      const x = values[i]! / scales[at]!;
      codes[i] = isFloat ? toFp8(x) : Math.max(0, Math.min(2 * middle - 1, Math.round(x) + zeros[at]!));
      numbers[i] = Math.fround((isFloat ? fp8Values[codes[i]!]! : codes[i]! - zeros[at]!) * scales[at]!);
    }
  }
  return { values: numbers, parts: partsOf(kind, { rows, columns, lines, groups, codes, scales, zeros }) };
}

interface Quantised {
  readonly rows: number;
  readonly columns: number;
  readonly lines: number;
  readonly groups: number;
  /** [rows, columns], from 0 on; of fp8 its bits. */
  readonly codes: Int32Array;
  /** [lines, groups] */
  readonly scales: Float64Array;
  readonly zeros: Int32Array;
}

function partsOf(kind: Kind, q: Quantised): Record<string, Tensor> {
  const { format, bits, symmetric } = kind;
  const { rows, columns, lines, groups, codes, zeros } = q;
  const code = (row: number, column: number) => codes[row * columns + column]!;
  const zero = (row: number, group: number) => zeros[row * groups + group]!;
  const scale = (turned: boolean): Tensor => {
    const values = turned
      ? Array.from({ length: rows * groups }, (_, i) => q.scales[(i % rows) * groups + Math.floor(i / rows)]!)
      : [...q.scales];
    const data = toBytes(
      Uint32Array.from(values, (x) => encode(x, kind.scales)),
      kind.scales,
    );
    const shape = turned ? [groups, rows] : kind.group[0] === null ? [1] : [lines, groups];
    return { dtype: { bf16: 'BF16', fp16: 'F16', fp32: 'F32' }[kind.scales], shape, data };
  };
  const bytes = (dtype: string, shape: number[], values: Iterable<number>): Tensor => ({
    ...{ dtype, shape, data: Uint8Array.from(values) },
  });
  const inWord = 32 / bits;
  /** Words [down, along] with the code of each place in them. */
  const words = (
    down: number,
    along: number,
    at: (i: number, j: number, place: number) => number,
  ): Tensor => {
    const data = new Uint32Array(down * along);
    for (let i = 0; i < down; i++)
      for (let j = 0; j < along; j++)
        for (let place = 0; place < inWord; place++)
          data[i * along + j]! |= at(i, j, place) << (bits * place);
    return { dtype: 'I32', shape: [down, along], data: new Uint8Array(data.buffer) };
  };
  switch (format) {
    case 'fp8':
      return { weight: bytes('F8_E4M3', [rows, columns], codes), weight_scale_inv: scale(false) };
    case 'float':
      return { weight: bytes('F8_E4M3', [rows, columns], codes), weight_scale: scale(false) };
    case 'int':
      // int8: the middle is 0.
      return {
        ...{
          weight: bytes(
            'I8',
            [rows, columns],
            codes.map((q) => q - 128),
          ),
          weight_scale: scale(false),
        },
        ...(symmetric
          ? {}
          : {
              weight_zero_point: bytes(
                'I8',
                [lines, groups],
                zeros.map((z) => z - 128),
              ),
            }),
      };
    case 'pack':
      // pack_to_int32(value, num_bits, packed_dim): value + offset, from the lowest bits on; zero points along dimension 0.
      return {
        weight_packed: words(rows, columns / inWord, (i, j, place) => code(i, j * inWord + place)),
        weight_scale: scale(false),
        weight_shape: {
          dtype: 'I64',
          shape: [2],
          data: new Uint8Array(BigInt64Array.of(BigInt(rows), BigInt(columns)).buffer),
        },
        ...(symmetric
          ? {}
          : {
              weight_zero_point: words(rows / inWord, groups, (i, j, place) => zero(i * inWord + place, j)),
            }),
      };
    case 'awq': {
      // order_map = [0, 2, 4, 6, 1, 3, 5, 7]; qweight[:, col] |= intweight[:, col * 8 + order_map[i]] << (i * 4)
      const order = [0, 2, 4, 6, 1, 3, 5, 7];
      return {
        qweight: words(columns, rows / 8, (i, j, place) => code(j * 8 + order[place]!, i)),
        qzeros: words(groups, rows / 8, (i, j, place) => zero(j * 8 + order[place]!, i)),
        scales: scale(true),
      };
    }
    default: {
      // qweight[row] |= intweight[j] << (bits * (j - i)), of intweight [in, out]; zeros -= 1; qzeros[:, col] |= zeros[:, j] << ..
      const less = format === 'gptq' ? 1 : 0;
      const group = Math.ceil(columns / groups);
      return {
        qweight: words(columns / inWord, rows, (i, j, place) => code(j, i * inWord + place)),
        qzeros: words(groups, rows / inWord, (i, j, place) => zero(j * inWord + place, i) - less),
        scales: scale(true),
        g_idx: {
          ...{ dtype: 'I32', shape: [columns] },
          data: new Uint8Array(Int32Array.from({ length: columns }, (_, i) => Math.floor(i / group)).buffer),
        },
      };
    }
  }
}

/** The numbers of fp8 e4m3 by their bits: 0 to 126 are positive, in ascending order. */
const fp8Values = Array.from({ length: 256 }, (_, bits) => {
  if (bits % 128 === 127) return Number.NaN;
  // A float16 has the same fraction with seven bits more, and a bias that is 8 larger.
  return decode((bits % 128) * 128, 'fp16') * 256 * (bits < 128 ? 1 : -1);
});

/** Bits of the nearest number. */
function toFp8(x: number): number {
  let best = 0;
  for (let bits = 1; bits < 127; bits++)
    if (Math.abs(fp8Values[bits]! - Math.abs(x)) < Math.abs(fp8Values[best]! - Math.abs(x))) best = bits;
  return best + (x < 0 ? 128 : 0);
}
