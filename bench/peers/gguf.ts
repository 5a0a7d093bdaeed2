// Writes a Qwen3 model with random weights as a GGUF file, so that llama.cpp can be measured on real dimensions without a download.
// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3.
import { closeSync, openSync, renameSync, writeSync } from 'node:fs';
import type { ModelDims } from '../../codegen/model/dims.ts';

type Value =
  | { readonly type: 'u32' | 'f32'; readonly value: number }
  | { readonly type: 'string'; readonly value: string }
  | { readonly type: 'strings'; readonly value: readonly string[] }
  | { readonly type: 'i32s'; readonly value: Int32Array };

interface Tensor {
  readonly name: string;
  /** Rows of a matrix, 1 for a vector. */
  readonly rows: number;
  readonly cols: number;
  readonly type: 'f16' | 'f32';
}

const typeCode = { u32: 4, f32: 6, string: 8, array: 9, i32: 5 } as const;
const tensorCode = { f32: 0, f16: 1 } as const;
const alignment = 32;

/** Writes the file at path: matrices F16, uniform in ±0.03; norms F32, ones. Tokens are named <0>, <1>, .... */
export function writeRandomGguf(path: string, dims: ModelDims): void {
  const tensors = tensorsOf(dims);
  const metadata = metadataOf(dims);
  const head: Buffer[] = [Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(metadata.length)];
  for (const [key, value] of metadata) head.push(text(key), encode(value));
  let offset = 0;
  for (const tensor of tensors) {
    const shape = tensor.rows === 1 ? [tensor.cols] : [tensor.cols, tensor.rows];
    head.push(
      text(tensor.name),
      u32(shape.length),
      ...shape.map(u64),
      u32(tensorCode[tensor.type]),
      u64(offset),
    );
    offset += aligned(bytesOf(tensor));
  }
  const unfinished = `${path}.${process.pid}.tmp`;
  const file = openSync(unfinished, 'w');
  try {
    const header = Buffer.concat(head);
    writeSync(file, header);
    writeSync(file, Buffer.alloc(aligned(header.length) - header.length));
    const noise = randomHalves(1 << 21);
    for (const tensor of tensors) writeTensor(file, tensor, noise);
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

function tensorsOf(dims: ModelDims): Tensor[] {
  const { hidden, ffn, headDim } = dims;
  const q = dims.qHeads * headDim;
  const kv = dims.kvHeads * headDim;
  const matrix = (name: string, rows: number, cols: number): Tensor => ({ name, rows, cols, type: 'f16' });
  const vector = (name: string, cols: number): Tensor => ({ name, rows: 1, cols, type: 'f32' });
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
    matrix('token_embd.weight', dims.vocab, hidden),
    ...Array.from({ length: dims.layers }, (_, index) => layer(index)).flat(),
    vector('output_norm.weight', hidden),
    ...(dims.tiedHead ? [] : [matrix('output.weight', dims.vocab, hidden)]),
  ];
}

function writeTensor(file: number, tensor: Tensor, noise: Uint16Array): void {
  if (tensor.type === 'f32') {
    const bytes = Buffer.alloc(aligned(bytesOf(tensor)));
    Buffer.from(new Float32Array(tensor.cols).fill(1).buffer).copy(bytes);
    writeSync(file, bytes);
    return;
  }
  const block = Buffer.from(noise.buffer);
  for (let left = aligned(bytesOf(tensor)); left > 0; )
    left -= writeSync(file, block, 0, Math.min(left, block.length));
}

/** float16 patterns, uniform in ±0.03 but for the subnormal ones around zero. */
function randomHalves(count: number): Uint16Array {
  const halves = new Uint16Array(count);
  let state = 1;
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    halves[i] = halfOf((state / 2 ** 31 - 1) * 0.03);
  }
  return halves;
}

/** The float16 next to x towards zero, for 2^-14 <= |x| < 65536; 0 below. */
function halfOf(x: number): number {
  const size = Math.abs(x);
  const exponent = Math.floor(Math.log2(size));
  if (!(exponent >= -14)) return 0;
  const mantissa = Math.floor((size / 2 ** exponent - 1) * 1024);
  return (x < 0 ? 0x8000 : 0) | ((exponent + 15) << 10) | mantissa;
}

const bytesOf = (tensor: Tensor) => tensor.rows * tensor.cols * (tensor.type === 'f16' ? 2 : 4);
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
