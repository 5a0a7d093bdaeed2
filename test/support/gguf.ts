// Writes GGUF files: any header, and a folder of a model as convert_hf_to_gguf.py of llama.cpp writes it.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ReferenceModel, readReferenceModel } from '../../runtime/reference/weights.ts';
import { readTensors } from '../../runtime/weights/safetensors.ts';
import { halfBits, type Quantised, quantise } from './quantise.ts';

export type Value =
  | { readonly u32: number }
  | { readonly f32: number }
  | { readonly flag: boolean }
  | { readonly text: string | Buffer }
  | { readonly texts: readonly (string | Buffer)[] }
  | { readonly i32s: readonly number[] }
  | { readonly f32s: readonly number[] };
export type MatrixType = 'F32' | 'F16' | 'BF16' | Quantised;

export interface Tensor {
  readonly name: string;
  /** Elements of a row first. */
  readonly shape: readonly (number | bigint)[];
  /** A name, or a code that has none here. */
  readonly type: MatrixType | number;
  readonly data: Uint8Array;
  /** In the data. @default behind the tensor before it, aligned */
  readonly offset?: number | bigint;
}

export interface Gguf {
  readonly metadata: readonly (readonly [key: string | Buffer, value: Value])[];
  readonly tensors: readonly Tensor[];
  readonly version?: number;
  /** In the places of the right ones. */
  readonly tensorCount?: bigint;
  readonly keyCount?: bigint;
}

const typeCodes: Readonly<Record<MatrixType, number>> = {
  ...{ F32: 0, F16: 1, BF16: 30, Q8_0: 8, Q4_0: 2, Q4_1: 3, Q5_0: 6, Q5_1: 7 },
  ...{ Q4_K: 12, Q5_K: 13, Q6_K: 14 },
};
const alignment = 32;
const aligned = (bytes: number) => Math.ceil(bytes / alignment) * alignment;

export function ggufBytes(file: Gguf): Buffer {
  const { metadata, tensors, version = 3 } = file;
  const head = [
    Buffer.from('GGUF'),
    u32(version),
    u64(file.tensorCount ?? BigInt(tensors.length)),
    u64(file.keyCount ?? BigInt(metadata.length)),
    ...metadata.flatMap(([key, value]) => [text(key), ...encoded(value)]),
  ];
  const data: Buffer[] = [];
  let end = 0;
  for (const tensor of tensors) {
    const { name, shape, type } = tensor;
    const code = typeof type === 'number' ? type : typeCodes[type];
    head.push(text(name), u32(shape.length), ...shape.map(u64), u32(code), u64(tensor.offset ?? end));
    const bytes = Buffer.alloc(aligned(tensor.data.length));
    bytes.set(tensor.data);
    data.push(bytes);
    end += bytes.length;
  }
  const header = Buffer.concat(head);
  return Buffer.concat([header, Buffer.alloc(aligned(header.length) - header.length), ...data]);
}

export function writeGguf(path: string, file: Gguf): string {
  writeFileSync(path, ggufBytes(file));
  return path;
}

function encoded(value: Value): Buffer[] {
  if ('u32' in value) return [u32(4), u32(value.u32)];
  if ('f32' in value) return [u32(6), Buffer.from(new Float32Array([value.f32]).buffer)];
  if ('flag' in value) return [u32(7), Buffer.from([Number(value.flag)])];
  if ('text' in value) return [u32(8), text(value.text)];
  if ('texts' in value) return [u32(9), u32(8), u64(value.texts.length), ...value.texts.map(text)];
  if ('f32s' in value)
    return [u32(9), u32(6), u64(value.f32s.length), Buffer.from(Float32Array.from(value.f32s).buffer)];
  return [u32(9), u32(5), u64(value.i32s.length), Buffer.from(Int32Array.from(value.i32s).buffer)];
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function text(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.length), bytes]);
}

/** Scaled positions, but for those that are a tensor. */
function scalingOf(rope: Readonly<Record<string, string | number>>): [name: string, value: Value][] {
  const { rope_type: type, original_max_position_embeddings: original } = rope;
  if (type !== 'linear' && type !== 'yarn') return [];
  const floats = [
    ['factor', 'factor'],
    ['attention_factor', 'yarn_attn_factor'],
    ['beta_fast', 'yarn_beta_fast'],
    ['beta_slow', 'yarn_beta_slow'],
  ] as const;
  return [
    ['type', { text: type }],
    ...floats.flatMap(([key, name]): [string, Value][] =>
      rope[key] === undefined ? [] : [[name, { f32: Number(rope[key]) }]],
    ),
    ...(original === undefined
      ? []
      : [['original_context_length', { u32: Number(original) }] as [string, Value]]),
  ];
}

/** The model in a folder. @param typeOf of a matrix, by its name in the file */
export function ggufOf(directory: string, typeOf: (name: string) => MatrixType): Gguf {
  const config = json(join(directory, 'config.json'));
  const { dims, tensors } = readReferenceModel(directory);
  const family = config['model_type'] as string;
  const headDim = (config['head_dim'] ?? config['hidden_size'] / config['num_attention_heads']) as number;
  const rope = config['rope_parameters'];
  const factors = rope.rope_type === 'llama3' ? ropeFactors(rope, headDim) : undefined;
  const stored = [...readTensors(directory)].map(([name, { shape }]): Tensor => {
    const isTurned = ['llama', 'smollm3', 'granite'].includes(family) && /\.(q|k)_proj\.weight$/.test(name);
    const read = tensors(name);
    const values = isTurned ? pairsTogether(read, shape[1]!, headDim) : read;
    const named = nameOf(name);
    const type = shape.length === 1 ? 'F32' : typeOf(named);
    return { name: named, shape: [...shape].reverse(), type, data: storedAs(type, values) };
  });
  const freqs = factors && {
    ...{ name: 'rope_freqs.weight', shape: [headDim / 2], type: 'F32' as const },
    data: storedAs('F32', Float32Array.from(factors)),
  };
  const key = (name: string, value: Value) => [`${family}.${name}`, value] as const;
  return {
    metadata: [
      ['general.architecture', { text: family }],
      ['general.name', { text: 'a model of a test' }],
      key('block_count', { u32: config['num_hidden_layers'] }),
      key('context_length', { u32: config['max_position_embeddings'] }),
      key('embedding_length', { u32: config['hidden_size'] }),
      key('feed_forward_length', { u32: config['intermediate_size'] }),
      key('attention.head_count', { u32: config['num_attention_heads'] }),
      key('attention.head_count_kv', { u32: config['num_key_value_heads'] }),
      key('attention.key_length', { u32: headDim }),
      key('attention.value_length', { u32: headDim }),
      key('rope.dimension_count', { u32: dims.rotated ?? headDim }),
      ...scalingOf(rope).map(([name, value]) => key(`rope.scaling.${name}`, value)),
      key('attention.layer_norm_rms_epsilon', { f32: config['rms_norm_eps'] }),
      key('rope.freq_base', { f32: rope.rope_theta }),
      ...(family === 'phi3'
        ? phi3Keys(config, dims.ropeScaling).map(([name, value]) => key(name, value))
        : []),
      ...(family === 'granite' ? graniteKeys(config).map(([name, value]) => key(name, value)) : []),
      ...vocabularyOf(directory, config['vocab_size']),
    ],
    tensors: [...(freqs ? [freqs] : []), ...longRopeTensors(dims.ropeScaling), ...stored],
  };
}

type Scaling = ReferenceModel['dims']['ropeScaling'];

/** Phi3MiniModel of the converter. */
// biome-ignore lint/suspicious/noExplicitAny: the files are those of this repository.
const phi3Keys = (config: Record<string, any>, scaling: Scaling): (readonly [string, Value])[] => [
  ['attention.sliding_window', { u32: config['sliding_window'] ?? 0 }],
  ['rope.scaling.original_context_length', { u32: config['original_max_position_embeddings'] }],
  ...(scaling?.type === 'longrope'
    ? [['rope.scaling.attn_factor', { f32: scaling.attention }] as const]
    : []),
];

/** GraniteModel of the converter. */
// biome-ignore lint/suspicious/noExplicitAny: the files are those of this repository.
const graniteKeys = (config: Record<string, any>): (readonly [string, Value])[] => [
  ['attention.scale', { f32: config['attention_multiplier'] }],
  ['embedding_scale', { f32: config['embedding_multiplier'] }],
  ['residual_scale', { f32: config['residual_multiplier'] }],
  ['logit_scale', { f32: config['logits_scaling'] }],
];

function longRopeTensors(scaling: Scaling): Tensor[] {
  if (scaling?.type !== 'longrope') return [];
  const factors = { long: scaling.longFactors, short: scaling.shortFactors };
  return Object.entries(factors).map(([name, values]) => ({
    ...{ name: `rope_factors_${name}.weight`, shape: [values.length], type: 'F32' },
    data: storedAs('F32', Float32Array.from(values)),
  }));
}

/** generate_extra_tensors of the converter. */
function ropeFactors(rope: Readonly<Record<string, number>>, headDim: number): number[] {
  const {
    factor = 8,
    low_freq_factor: low = 1,
    high_freq_factor: high = 4,
    rope_theta: theta = 10000,
  } = rope;
  const before = rope['original_max_position_embeddings'] ?? 8192;
  return Array.from({ length: headDim / 2 }, (_, i) => {
    const wavelength = 2 * Math.PI * theta ** ((2 * i) / headDim);
    if (wavelength < before / high) return 1;
    if (wavelength > before / low) return factor;
    const smooth = (before / wavelength - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
  });
}

// biome-ignore lint/suspicious/noExplicitAny: the files are those of this repository.
const json = (path: string): Record<string, any> => JSON.parse(readFileSync(path, 'utf8'));

/** Qwen's pre-tokenizer: the folders that have a tokenizer here are Qwens. */
export function vocabularyOf(directory: string, rows: number): Gguf['metadata'] {
  if (!existsSync(join(directory, 'tokenizer.json'))) return [];
  const { model, added_tokens: added } = json(join(directory, 'tokenizer.json'));
  const config = json(join(directory, 'tokenizer_config.json'));
  const tokens = Array.from({ length: rows }, (_, id) => `[PAD${id}]`);
  const types = new Array<number>(rows).fill(5);
  for (const [token, id] of Object.entries<number>(model.vocab)) {
    tokens[id] = token;
    types[id] = 1;
  }
  for (const { id, content, special } of added) {
    tokens[id] = content;
    types[id] = special ? 3 : 4;
  }
  const template = join(directory, 'chat_template.jinja');
  const chat = existsSync(template) ? readFileSync(template, 'utf8') : config['chat_template'];
  const merges = model.merges as (string | [string, string])[];
  return [
    ['tokenizer.ggml.model', { text: 'gpt2' }],
    ['tokenizer.ggml.pre', { text: 'qwen2' }],
    ['tokenizer.ggml.tokens', { texts: tokens }],
    ['tokenizer.ggml.token_type', { i32s: types }],
    [
      'tokenizer.ggml.merges',
      { texts: merges.map((merge) => (typeof merge === 'string' ? merge : merge.join(' '))) },
    ],
    ['tokenizer.ggml.eos_token_id', { u32: tokens.indexOf(config['eos_token']) }],
    ['tokenizer.ggml.padding_token_id', { u32: tokens.indexOf(config['pad_token']) }],
    ['tokenizer.ggml.add_bos_token', { flag: false }],
    ['tokenizer.chat_template', { text: chat }],
  ];
}

function nameOf(name: string): string {
  const names: readonly (readonly [RegExp, string])[] = [
    [/^model\.embed_tokens/, 'token_embd'],
    [/^model\.norm/, 'output_norm'],
    [/^lm_head/, 'output'],
    [/^model\.layers\.(\d+)\./, 'blk.$1.'],
    [/input_layernorm/, 'attn_norm'],
    [/post_attention_layernorm/, 'ffn_norm'],
    [/self_attn\.(q|k|v|qkv)_proj/, 'attn_$1'],
    [/self_attn\.([qk])_norm/, 'attn_$1_norm'],
    [/self_attn\.o_proj/, 'attn_output'],
    [/mlp\.(gate|up|down)_proj/, 'ffn_$1'],
    [/mlp\.gate_up_proj/, 'ffn_up'],
  ];
  return names.reduce((text, [pattern, to]) => text.replace(pattern, to), name);
}

/** LlamaModel.permute of the converter: [heads, 2, half, columns] becomes [heads, half, 2, columns]. */
function pairsTogether(values: Float32Array, columns: number, headDim: number): Float32Array {
  const out = new Float32Array(values.length);
  const half = headDim / 2;
  for (let head = 0; head * headDim * columns < values.length; head++) {
    for (let side = 0; side < 2; side++) {
      for (let i = 0; i < half; i++) {
        const from = (head * headDim + side * half + i) * columns;
        out.set(values.subarray(from, from + columns), (head * headDim + i * 2 + side) * columns);
      }
    }
  }
  return out;
}

/** Values of bf16 folders; to F16 towards zero. */
function storedAs(type: MatrixType, values: Float32Array): Uint8Array {
  if (type === 'F32') return new Uint8Array(values.slice().buffer);
  if (type === 'F16') return new Uint8Array(new Uint16Array(values.map(halfBits)).buffer);
  if (type !== 'BF16') return quantise(type, values);
  const words = new Uint32Array(values.slice().buffer);
  return new Uint8Array(new Uint16Array(words.map((bits) => bits >>> 16)).buffer);
}
