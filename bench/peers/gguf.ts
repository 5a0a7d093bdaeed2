// Writes a Qwen3 model with random weights as a GGUF file, so that llama.cpp can be measured on real dimensions without a download.
// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3.
import { closeSync, openSync, renameSync, writeSync } from 'node:fs';
import type { ModelDims } from '../../codegen/model/dims.ts';
import { tensorTypes } from '../../gguf/tensor-types.ts';

type Value =
  | { readonly type: 'u32' | 'f32'; readonly value: number }
  | { readonly type: 'string'; readonly value: string }
  | { readonly type: 'strings'; readonly value: readonly string[] }
  | { readonly type: 'i32s'; readonly value: Int32Array };

type MatrixType = 'F16' | 'Q8_0' | 'Q4_0' | 'Q4_K' | 'Q6_K';
/** What --blocks takes. */
export const blockTypes = ['Q8_0', 'Q4_0', 'Q4_K'] as const;
export type RandomType = 'F16' | (typeof blockTypes)[number];

interface Tensor {
  readonly name: string;
  /** Rows of a matrix, 1 for a vector. */
  readonly rows: number;
  readonly cols: number;
  readonly type: MatrixType | 'F32';
}

const typeCode = { u32: 4, f32: 6, string: 8, array: 9, i32: 5 } as const;
const alignment = 32;

/** Writes the file at path: matrices of a type, uniform in ±0.03; norms F32, ones. Tokens are named <0>, <1>, ....
 *  As llama.cpp's own quantiser does, embedding and head of files of 4 bits are Q6_K. */
export function writeRandomGguf(path: string, dims: ModelDims, type: RandomType): void {
  const tensors = tensorsOf(dims, type);
  const metadata = metadataOf(dims);
  const head: Buffer[] = [Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(metadata.length)];
  for (const [key, value] of metadata) head.push(text(key), encode(value));
  let offset = 0;
  for (const tensor of tensors) {
    const shape = tensor.rows === 1 ? [tensor.cols] : [tensor.cols, tensor.rows];
    head.push(text(tensor.name), u32(shape.length), ...shape.map(u64), u32(typeOf(tensor).code), u64(offset));
    offset += aligned(bytesOf(tensor));
  }
  const unfinished = `${path}.${process.pid}.tmp`;
  const file = openSync(unfinished, 'w');
  try {
    const header = Buffer.concat(head);
    writeSync(file, header);
    writeSync(file, Buffer.alloc(aligned(header.length) - header.length));
    const noise = new Map<MatrixType, Buffer>();
    for (const tensor of tensors) {
      if (tensor.type === 'F32') {
        writeOnes(file, tensor);
        continue;
      }
      const numbers = noise.get(tensor.type) ?? randomNumbers(tensor.type);
      noise.set(tensor.type, numbers);
      for (let left = aligned(bytesOf(tensor)); left > 0; )
        left -= writeSync(file, numbers, 0, Math.min(left, numbers.length));
    }
  } finally {
    closeSync(file);
  }
  renameSync(unfinished, path);
}

function metadataOf(dims: ModelDims): [string, Value][] {
  const u32s = (key: string, value: number): [string, Value] => [key, { type: 'u32', value }];
  const f32s = (key: string, value: number): [string, Value] => [key, { type: 'f32', value }];
  const names = Array.from({ length: dims.vocab }, (_, id) => `<${id}>`);
  return [
    ['general.architecture', { type: 'string', value: 'qwen3' }],
    ['general.name', { type: 'string', value: `${dims.name}, random weights` }],
    u32s('general.file_type', 1),
    u32s('general.alignment', alignment),
    u32s('qwen3.block_count', dims.layers),
    u32s('qwen3.context_length', dims.maxPositions),
    u32s('qwen3.embedding_length', dims.hidden),
    u32s('qwen3.feed_forward_length', dims.ffn),
    u32s('qwen3.attention.head_count', dims.qHeads),
    u32s('qwen3.attention.head_count_kv', dims.kvHeads),
    u32s('qwen3.attention.key_length', dims.headDim),
    u32s('qwen3.attention.value_length', dims.headDim),
    f32s('qwen3.attention.layer_norm_rms_epsilon', dims.normEps),
    f32s('qwen3.rope.freq_base', dims.ropeTheta),
    ['tokenizer.ggml.model', { type: 'string', value: 'gpt2' }],
    ['tokenizer.ggml.pre', { type: 'string', value: 'qwen2' }],
    ['tokenizer.ggml.tokens', { type: 'strings', value: names }],
    ['tokenizer.ggml.token_type', { type: 'i32s', value: new Int32Array(dims.vocab).fill(1) }],
    ['tokenizer.ggml.merges', { type: 'strings', value: ['< 0'] }],
    u32s('tokenizer.ggml.eos_token_id', dims.vocab - 1),
  ];
}

function tensorsOf(dims: ModelDims, type: RandomType): Tensor[] {
  const { hidden, ffn, headDim } = dims;
  const q = dims.qHeads * headDim;
  const kv = dims.kvHeads * headDim;
  const matrix = (name: string, rows: number, cols: number): Tensor => ({ name, rows, cols, type });
  const outer: MatrixType = type === 'Q4_0' || type === 'Q4_K' ? 'Q6_K' : type;
  const vector = (name: string, cols: number): Tensor => ({ name, rows: 1, cols, type: 'F32' });
  const layer = (index: number): Tensor[] => {
    const name = (part: string) => `blk.${index}.${part}.weight`;
    return [
      vector(name('attn_norm'), hidden),
      matrix(name('attn_q'), q, hidden),
      matrix(name('attn_k'), kv, hidden),
      matrix(name('attn_v'), kv, hidden),
      vector(name('attn_q_norm'), headDim),
      vector(name('attn_k_norm'), headDim),
      matrix(name('attn_output'), hidden, q),
      vector(name('ffn_norm'), hidden),
      matrix(name('ffn_gate'), ffn, hidden),
      matrix(name('ffn_up'), ffn, hidden),
      matrix(name('ffn_down'), hidden, ffn),
    ];
  };
  return [
    { ...matrix('token_embd.weight', dims.vocab, hidden), type: outer },
    ...Array.from({ length: dims.layers }, (_, index) => layer(index)).flat(),
    vector('output_norm.weight', hidden),
    ...(dims.tiedHead ? [] : [{ ...matrix('output.weight', dims.vocab, hidden), type: outer }]),
  ];
}

function writeOnes(file: number, tensor: Tensor): void {
  const bytes = Buffer.alloc(aligned(bytesOf(tensor)));
  Buffer.from(new Float32Array(tensor.cols).fill(1).buffer).copy(bytes);
  writeSync(file, bytes);
}

/** Random bytes of whole blocks, whose scales make their numbers uniform in ±0.03; F16: float16 patterns, but for the subnormal ones around zero. */
function randomNumbers(type: MatrixType): Buffer {
  let state = 1;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state;
  };
  const size = typeOf({ type }).bytes;
  const bytes = Buffer.alloc(size * 32 * Math.floor((1 << 22) / size / 32));
  for (let at = 0; at < bytes.length; at += size) {
    if (type === 'F16') bytes.writeUInt16LE(halfOf((next() / 2 ** 31 - 1) * most), at);
    else {
      for (let i = 0; i < size; i++) bytes[at + i] = next() >>> 24;
      scaled[type](bytes, at);
    }
  }
  return bytes;
}

const most = 0.03;

/** Sets the scales of the block at a byte; where it has parts, all of them have one scale. */
const scaled: Readonly<Record<Exclude<MatrixType, 'F16'>, (bytes: Buffer, at: number) => void>> = {
  Q8_0: (bytes, at) => bytes.writeUInt16LE(halfOf(most / 128), at),
  Q4_0: (bytes, at) => bytes.writeUInt16LE(halfOf(most / 8), at),
  Q4_K: (bytes, at) => {
    bytes.writeUInt16LE(halfOf((2 * most) / 15 / 32), at);
    bytes.writeUInt16LE(halfOf(most / 32), at + 2);
    // 6 bits of eight scales and eight minima, 32 each.
    bytes.fill(32 | ((32 >> 4) << 6), at + 4, at + 12).fill(0, at + 12, at + 16);
  },
  Q6_K: (bytes, at) => {
    bytes.fill(8, at + 192, at + 208);
    bytes.writeUInt16LE(halfOf(most / 32 / 8), at + 208);
  },
};

/** The float16 next to x towards zero, for 2^-14 <= |x| < 65536; 0 below. */
function halfOf(x: number): number {
  const size = Math.abs(x);
  const exponent = Math.floor(Math.log2(size));
  if (!(exponent >= -14)) return 0;
  const mantissa = Math.floor((size / 2 ** exponent - 1) * 1024);
  return (x < 0 ? 0x8000 : 0) | ((exponent + 15) << 10) | mantissa;
}

/** A type with its code, by its name. */
function typeOf({ type }: Pick<Tensor, 'type'>) {
  const [code, found] = [...tensorTypes].find(([, { name }]) => name === type)!;
  return { code, ...found };
}
const bytesOf = (tensor: Tensor) => {
  const { bytes, elements } = typeOf(tensor);
  return ((tensor.rows * tensor.cols) / elements) * bytes;
};
const aligned = (bytes: number) => Math.ceil(bytes / alignment) * alignment;

function encode(value: Value): Buffer {
  return Buffer.concat(encoded(value));
}

function encoded(value: Value): Buffer[] {
  switch (value.type) {
    case 'u32':
      return [u32(typeCode.u32), u32(value.value)];
    case 'f32':
      return [u32(typeCode.f32), f32(value.value)];
    case 'string':
      return [u32(typeCode.string), text(value.value)];
    case 'strings':
      return [u32(typeCode.array), u32(typeCode.string), u64(value.value.length), ...value.value.map(text)];
    case 'i32s':
      return [
        u32(typeCode.array),
        u32(typeCode.i32),
        u64(value.value.length),
        Buffer.from(value.value.buffer, value.value.byteOffset, value.value.byteLength),
      ];
    default:
      return value satisfies never;
  }
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function f32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.length), bytes]);
}
