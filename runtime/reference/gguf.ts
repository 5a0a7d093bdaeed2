// Reads a GGUF file for the oracle: a second reader on purpose, sharing no code with the one that it checks, nor its care for damaged files.
// Written from docs/gguf.md and the block structs of ggml.
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { blocksOf, nearestHalf, type ReferenceFormats, roundToBlocks } from './blocks.ts';
import type { ReferenceDims, ReferenceTensors } from './reference.ts';

interface Tensor {
  /** Elements of a row first. */
  readonly shape: readonly number[];
  readonly type: number;
  readonly offset: number;
}

/** Dims and float32 tensors of a file; those in blocks are rounded to bf16, as the model is that is made of them, but for matrices whose
 *  format is in blocks: they are as they are in the file if that has the same blocks, else rounded to theirs.
 *  @throws Error naming what is unknown. */
export function readReferenceGguf(
  path: string,
  formats?: ReferenceFormats,
): {
  readonly dims: ReferenceDims;
  readonly tensors: ReferenceTensors;
} {
  const { metadata, tensors, dataStart } = readFile(path);
  const family = String(metadata.get('general.architecture'));
  const number = (key: string, otherwise?: number): number => {
    const value = metadata.get(`${family}.${key}`) ?? otherwise;
    if (typeof value !== 'number') throw new Error(`${path}: ${family}.${key} is not a number`);
    return value;
  };
  const [hidden, layers] = [number('embedding_length'), number('block_count')];
  const qHeads = number('attention.head_count');
  const headDim = number('attention.key_length', hidden / qHeads);
  const rotated = family === 'phi3' ? number('rope.dimension_count', headDim) : headDim;
  const read = (name: string, format: string | null = null): Float32Array => {
    const tensor = tensors.get(name);
    if (!tensor) throw new Error(`${path}: no tensor ${name}`);
    const kept = format !== null && keptIn(format, tensor.type);
    if (kept) return valuesOf(path, tensor, dataStart, kept);
    const values = valuesOf(path, tensor, dataStart);
    if (format === null) return isBlocks(tensor) ? values.map(toBf16) : values;
    return roundToBlocks(format, values, tensor.shape[0]!);
  };
  const kept = new Map<string, Float32Array>();
  const window = family === 'phi3' ? number('attention.sliding_window', 0) : 0;
  const longRope = tensors.has('rope_factors_long.weight') && {
    ...{ type: 'longrope' as const, attention: number('rope.scaling.attn_factor', 1) },
    originalPositions: number('rope.scaling.original_context_length'),
    shortFactors: [...read('rope_factors_short.weight')],
    longFactors: [...read('rope_factors_long.weight')],
  };
  const dims = {
    ...{ layers, hidden, qHeads, headDim },
    ...(rotated !== headDim && { rotated }),
    ffn: number('feed_forward_length'),
    kvHeads: number('attention.head_count_kv', qHeads),
    vocab: tensors.get('token_embd.weight')!.shape[1]!,
    normEps: number('attention.layer_norm_rms_epsilon'),
    ropeTheta: number('rope.freq_base', 10000),
    maxPositions: number('context_length'),
    ropeScaling: longRope || scalingOf(metadata.get(`${family}.rope.scaling.type`), number),
    ...(tensors.has('rope_freqs.weight') && { ropeFactors: read('rope_freqs.weight') }),
    qkNorm: tensors.has('blk.0.attn_q_norm.weight'),
    qkvBias: tensors.has('blk.0.attn_q.bias'),
    tiedHead: !tensors.has('output.weight'),
    ...(family === 'granite' && granite(number, headDim)),
    kinds: [
      { name: 'turned', window: window > 0 ? window : null, rope: true },
      { name: 'plain', window: null, rope: false },
    ],
    pattern: family === 'smollm3' ? ['turned', 'turned', 'turned', 'plain'] : ['turned'],
  };
  return {
    dims,
    tensors: (name) => {
      let values = kept.get(name);
      if (!values) {
        const part = family === 'phi3' ? partOf(name, dims) : null;
        values = read(part?.of ?? nameInFile(name), blocksOf(formats, name));
        if (part) values = values.subarray(part.first * hidden, (part.first + part.rows) * hidden);
        const isTurned =
          ['llama', 'smollm3', 'granite'].includes(family) && /\.(q|k)_proj\.weight$/.test(name);
        if (isTurned) values = pairsApart(values, hidden, headDim);
        kept.set(name, values);
      }
      return values;
    },
  };
}

/** In units of the embedding, as a checkpoint's are (weights.ts); what is left out or 0 is not multiplied. */
function granite(number: (key: string, otherwise: number) => number, headDim: number) {
  const m = number('embedding_scale', 0) || 1;
  return {
    normEps: number('attention.layer_norm_rms_epsilon', 0) / (m * m),
    factors: {
      branch: (number('residual_scale', 0) || 1) / m,
      scores: number('attention.scale', 0) || 1 / Math.sqrt(headDim),
      logits: 1 / (number('logit_scale', 0) || 1),
    },
  };
}

/** As the llama.cpp of this architecture has it: its own betas, a size of its own of cosines and sines. */
function scalingOf(
  type: unknown,
  number: (key: string, otherwise: number) => number,
): ReferenceDims['ropeScaling'] {
  const factor = Number(number('rope.scaling.factor', number('rope.scale_linear', 1)).toPrecision(7));
  if (type === 'yarn') {
    const originalPositions = number('rope.scaling.original_context_length', number('context_length', 0));
    const attention = (1 + 0.1 * Math.log(factor)) * number('rope.scaling.attn_factor', 1);
    return { type, factor, originalPositions, betaFast: 32, betaSlow: 1, attention };
  }
  return factor > 1 && type !== 'none' ? { type: 'linear', factor } : null;
}

const outside: Readonly<Record<string, string>> = {
  'model.embed_tokens': 'token_embd',
  'model.norm': 'output_norm',
  lm_head: 'output',
};
const inside: Readonly<Record<string, string>> = {
  ...{ input_layernorm: 'attn_norm', post_attention_layernorm: 'ffn_norm' },
  ...{ 'self_attn.q_proj': 'attn_q', 'self_attn.k_proj': 'attn_k', 'self_attn.v_proj': 'attn_v' },
  ...{
    'self_attn.q_norm': 'attn_q_norm',
    'self_attn.k_norm': 'attn_k_norm',
    'self_attn.o_proj': 'attn_output',
  },
  ...{ 'mlp.gate_proj': 'ffn_gate', 'mlp.up_proj': 'ffn_up', 'mlp.down_proj': 'ffn_down' },
};

/** Where the rows of a matrix are that Phi-3 has with others in one; null: it is alone. */
function partOf(name: string, { qHeads, kvHeads, headDim, ffn }: ReferenceDims) {
  const found = /\.(\d+)\.[a-z_]+\.([a-z]+)_proj\.weight$/.exec(name);
  const [q, kv] = [qHeads * headDim, kvHeads * headDim];
  const rows: Readonly<Record<string, readonly [of: string, first: number, rows: number]>> = {
    ...{ q: ['attn_qkv', 0, q], k: ['attn_qkv', q, kv], v: ['attn_qkv', q + kv, kv] },
    ...{ gate: ['ffn_up', 0, ffn], up: ['ffn_up', ffn, ffn] },
  };
  const part = rows[found?.[2] ?? ''];
  return part ? { of: `blk.${found![1]}.${part[0]}.weight`, first: part[1], rows: part[2] } : null;
}

function nameInFile(name: string): string {
  const found = /^(?:model\.layers\.(\d+)\.)?(.+)\.(weight|bias)$/.exec(name)!;
  const [, layer, part, kind] = found as unknown as [string, string | undefined, string, string];
  return layer === undefined ? `${outside[part]}.${kind}` : `blk.${layer}.${inside[part]}.${kind}`;
}

/** Rows 2i and 2i + 1 of a head are the pair that Hugging Face has in rows i and i + half. */
function pairsApart(values: Float32Array, columns: number, headDim: number): Float32Array {
  const out = new Float32Array(values.length);
  const half = headDim / 2;
  for (let row = 0; row * columns < values.length; row++) {
    const [head, within] = [Math.floor(row / headDim), row % headDim];
    const to = head * headDim + (within % 2) * half + Math.floor(within / 2);
    out.set(values.subarray(row * columns, (row + 1) * columns), to * columns);
  }
  return out;
}

const mostHeaderBytes = 256_000_000;

function readFile(path: string) {
  const file = openSync(path, 'r');
  let bytes: Buffer;
  try {
    bytes = Buffer.alloc(Math.min(fstatSync(file).size, mostHeaderBytes));
    readSync(file, bytes, 0, bytes.length, 0);
  } finally {
    closeSync(file);
  }
  let at = 8;
  /** The start of what is passed over. */
  const pass = (size: number) => {
    at += size;
    return at - size;
  };
  const u32 = () => bytes.readUInt32LE(pass(4));
  const u64 = () => Number(bytes.readBigUInt64LE(pass(8)));
  const text = () => {
    const length = u64();
    const start = pass(length);
    return bytes.toString('utf8', start, at);
  };
  const sizes = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
  /** Numbers of the sizes that models have, and texts; undefined for what else there is. */
  const value = (type: number): number | string | undefined => {
    if (type === 8) return text();
    if (type === 9) {
      const [element, count] = [u32(), u64()];
      for (let i = 0; i < count; i++) value(element);
      return undefined;
    }
    const start = pass(sizes[type]!);
    if (type === 6) return bytes.readFloatLE(start);
    if (type === 4 || type === 5) return bytes.readUInt32LE(start);
    return type === 10 ? Number(bytes.readBigUInt64LE(start)) : undefined;
  };
  const [tensorCount, keyCount] = [u64(), u64()];
  const metadata = new Map<string, number | string | undefined>();
  for (let i = 0; i < keyCount; i++) {
    const key = text();
    metadata.set(key, value(u32()));
  }
  const tensors = new Map<string, Tensor>();
  for (let i = 0; i < tensorCount; i++) {
    const name = text();
    const shape = Array.from({ length: u32() }, u64);
    tensors.set(name, { shape, type: u32(), offset: u64() });
  }
  const alignment = Number(metadata.get('general.alignment') ?? 32);
  return { metadata, tensors, dataStart: Math.ceil(at / alignment) * alignment };
}

type Read = (block: DataView, element: number) => number;

/** Elements and bytes of a block, and one number of it. */
type Type = readonly [elements: number, bytes: number, read: Read];
const types: Readonly<Record<number, Type>> = {
  0: [1, 4, (block) => block.getFloat32(0, true)],
  1: [1, 2, (block) => half(block, 0)],
  30: [1, 2, (block) => bf16(block.getUint16(0, true))],
  8: [32, 34, (block, i) => half(block, 0) * block.getInt8(2 + i)],
  2: [32, 18, (block, i) => half(block, 0) * (nibble(block, 2, i) - 8)],
  3: [32, 20, (block, i) => half(block, 0) * nibble(block, 4, i) + half(block, 2)],
  6: [32, 22, (block, i) => half(block, 0) * (nibble(block, 6, i) + 16 * bit(block, 2, i) - 16)],
  7: [32, 24, (block, i) => half(block, 0) * (nibble(block, 8, i) + 16 * bit(block, 4, i)) + half(block, 2)],
  12: [256, 144, (block, i) => scaled(block, i, nibbleK(block, 16, i))],
  13: [
    256,
    176,
    (block, i) =>
      scaled(block, i, nibbleK(block, 48, i) + 16 * ((block.getUint8(16 + (i % 32)) >> (i >> 5)) & 1)),
  ],
  14: [256, 210, sixBits],
};

const nibble = (block: DataView, from: number, i: number) =>
  i < 16 ? block.getUint8(from + i) & 15 : block.getUint8(from + i - 16) >> 4;
const bit = (block: DataView, from: number, i: number) => (block.getUint32(from, true) >>> i) & 1;
/** Of 64 numbers, the first 32 are in the low halves of 32 bytes. */
const nibbleK = (block: DataView, from: number, i: number) => {
  const byte = block.getUint8(from + (i >> 6) * 32 + (i % 32));
  return i % 64 < 32 ? byte & 15 : byte >> 4;
};

/** Number q of part i / 32, whose scale and minimum are 6 bits each of 12 bytes. */
function scaled(block: DataView, i: number, q: number, kept = (x: number) => x): number {
  const part = i >> 5;
  const s = (at: number) => block.getUint8(4 + at);
  const [scale, least] =
    part < 4
      ? [s(part) & 63, s(part + 4) & 63]
      : [(s(part + 4) & 15) | ((s(part - 4) >> 6) << 4), (s(part + 4) >> 4) | ((s(part) >> 6) << 4)];
  return kept(half(block, 0) * scale) * q - kept(half(block, 2) * least);
}

function sixBits(block: DataView, i: number): number {
  const [upper, quarter, l] = [i >> 7, (i >> 5) & 3, i % 32];
  const low = block.getUint8(upper * 64 + (quarter & 1) * 32 + l);
  const high = (block.getUint8(128 + upper * 32 + l) >> (2 * quarter)) & 3;
  const q = (quarter < 2 ? low & 15 : low >> 4) | (high << 4);
  return half(block, 208) * block.getInt8(192 + (i >> 4)) * (q - 32);
}

function valuesOf(
  path: string,
  { shape, type, offset }: Tensor,
  dataStart: number,
  format = types[type],
): Float32Array {
  if (!format) throw new Error(`${path}: tensors of type ${type} are not read`);
  const [elements, size] = format;
  const count = shape.reduce((product, extent) => product * extent, 1);
  const bytes = Buffer.alloc((count / elements) * size);
  const file = openSync(path, 'r');
  try {
    for (let done = 0; done < bytes.length; ) {
      const got = readSync(
        file,
        bytes,
        done,
        Math.min(bytes.length - done, 2 ** 30),
        dataStart + offset + done,
      );
      if (got === 0) throw new Error(`${path} ends in a tensor`);
      done += got;
    }
  } finally {
    closeSync(file);
  }
  return expand(format, bytes);
}

const isBlocks = ({ type }: Tensor) => types[type]![0] > 1;
/** How a format has the codes of a type of a file; undefined: it has others. Of int4-asym scales and minima are float16. */
function keptIn(format: string, type: number): Type | undefined {
  if (format === 'int4-asym' && type === 12)
    return [256, 144, (block, i) => scaled(block, i, nibbleK(block, 16, i), nearestHalf)];
  const same: Readonly<Record<string, readonly number[]>> = { int8: [8], int4: [2], 'int4-asym': [2, 3] };
  return same[format]?.includes(type) ? types[type] : undefined;
}

/** Every tensor of a file in float32, by its name there. */
export function expandGguf(path: string): Map<string, Float32Array> {
  const { tensors, dataStart } = readFile(path);
  return new Map([...tensors].map(([name, tensor]) => [name, valuesOf(path, tensor, dataStart)]));
}

/** The numbers of blocks of a type, one after the other. */
export const expandBlocks = (type: number, bytes: Buffer): Float32Array => expand(types[type]!, bytes);

function expand([elements, size, read]: Type, bytes: Buffer): Float32Array {
  const out = new Float32Array((bytes.length / size) * elements);
  for (let block = 0; block * size < bytes.length; block++) {
    const view = new DataView(bytes.buffer, bytes.byteOffset + block * size, size);
    for (let i = 0; i < elements; i++) out[block * elements + i] = read(view, i);
  }
  return out;
}

function half(block: DataView, at: number): number {
  const bits = block.getUint16(at, true);
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25);
}

const word = new DataView(new ArrayBuffer(4));

function bf16(bits: number): number {
  word.setUint32(0, bits << 16);
  return word.getFloat32(0);
}

/** To the nearest, ties to even; values are finite. */
function toBf16(value: number): number {
  word.setFloat32(0, value);
  const bits = word.getUint32(0);
  word.setUint32(0, ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) << 16);
  return word.getFloat32(0);
}
