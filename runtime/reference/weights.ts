// Reads a Hugging Face folder for the oracle: a second reader on purpose, sharing no code with the loader that it checks.

import { closeSync, existsSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { blocksOf, columnsOf, nearestHalf, type ReferenceFormats, roundToBlocks, scaleOf } from './blocks.ts';
import { readReferenceGguf } from './gguf.ts';
import { expandQuantised } from './quantised.ts';
import type { ReferenceDims, ReferenceTensors } from './reference.ts';

export interface ReferenceModel {
  readonly dims: ReferenceDims;
  readonly tensors: ReferenceTensors;
}

/** Dims and float32 tensors of a GGUF file, or of a folder with config.json and model.safetensors, whole or in shards.
 *  Tensors are read when first asked for and kept. @param formats that matrices are rounded to
 *  @throws Error naming the key, tensor or file that is missing or unknown. */
export function readReferenceModel(dir: string, formats?: ReferenceFormats): ReferenceModel {
  if (statSync(dir).isFile()) return readReferenceGguf(dir, formats);
  const config = json(join(dir, 'config.json'));
  const dims = referenceDims(config);
  const { find, bytesOf } = readEntries(dir);
  const [embedding, head] = [find('model.embed_tokens.weight'), find('lm_head.weight')];
  // A head that is there and differs is no tied head, whatever the config says.
  const tiedHead =
    dims.tiedHead &&
    (!embedding ||
      !head ||
      Buffer.compare(Buffer.from(bytesOf(embedding)), Buffer.from(bytesOf(head))) === 0);
  const rounded = (name: string, values: Float32Array) => {
    const format = blocksOf(formats, name);
    return format === null ? values : roundToBlocks(format, values, columnsOf(dims, name));
  };
  const quantised = config['quantization_config'] ?? config['compression_config'];
  const part = (name: string) => {
    const entry = find(name);
    return entry && { dtype: entry.dtype, shape: entry.shape, bytes: bytesOf(entry) };
  };
  const expanded = (name: string) => {
    if (!quantised || !name.endsWith('.weight')) return null;
    const format = blocksOf(formats, name);
    const read = expandQuantised(part, name, quantised as Json, format, scaleOf);
    if (read === null) return null;
    if (format === null) return read.values.map(rounder(config));
    // What a block does not keep is rounded to it.
    const others = roundToBlocks(format, read.values, columnsOf(dims, name));
    return read.kept ? read.kept.map((x, i) => (Number.isNaN(x) ? others[i]! : x)) : others;
  };
  const tensors = referenceTensors(dir, find, bytesOf, rounded, expanded);
  return {
    dims: { ...dims, tiedHead },
    tensors: familyOf(config) === 'phi3' ? partsOfFused(dims, tensors) : tensors,
  };
}

const familyOf = (config: Json) => String(config['model_type']);

/** Phi-3 stores the rows of queries, keys and values as one matrix, and those of gate and up as another. */
export function partsOfFused(
  { qHeads, kvHeads, headDim, hidden, ffn }: ReferenceDims,
  tensors: ReferenceTensors,
): ReferenceTensors {
  const [q, kv] = [qHeads * headDim, kvHeads * headDim];
  const places: Readonly<Record<string, readonly [fused: string, first: number, rows: number]>> = {
    q_proj: ['qkv_proj', 0, q],
    k_proj: ['qkv_proj', q, kv],
    v_proj: ['qkv_proj', q + kv, kv],
    gate_proj: ['gate_up_proj', 0, ffn],
    up_proj: ['gate_up_proj', ffn, ffn],
  };
  return (name) => {
    const part = /\.([a-z_]+_proj)\.weight$/.exec(name)?.[1] ?? '';
    const place = places[part];
    if (place === undefined) return tensors(name);
    const [fused, first, rows] = place;
    return tensors(name.replace(part, fused)).subarray(first * hidden, (first + rows) * hidden);
  };
}

/** To the nearest number of the dtype that a config.json names, ties to even. */
function rounder(config: Json): (x: number) => number {
  const dtype = config['dtype'] ?? config['torch_dtype'];
  if (dtype === 'float16') return (x) => (x === 0 ? 0 : nearestHalf(x));
  if (dtype !== 'bfloat16') return (x) => x;
  const [float, bits] = [new Float32Array(1), new Uint32Array(1)];
  const [floatBytes, bitBytes] = [new Uint8Array(float.buffer), new Uint8Array(bits.buffer)];
  return (x) => {
    float[0] = x;
    bitBytes.set(floatBytes);
    bits[0] = ((bits[0]! + 0x7fff + ((bits[0]! >>> 16) & 1)) >>> 16) << 16;
    floatBytes.set(bitBytes);
    return float[0]!;
  };
}

type Json = Readonly<Record<string, unknown>>;

function json(path: string): Json {
  return JSON.parse(readFileSync(path, 'utf8')) as Json;
}

function number(from: Json, key: string, otherwise?: number): number {
  const value = from[key] ?? otherwise;
  if (typeof value !== 'number') throw new Error(`config: ${key} is not a number`);
  return value;
}

function longrope(rope: Json): ReferenceDims['ropeScaling'] {
  const first = number(rope, 'original_max_position_embeddings');
  const [short, long] = [rope['short_factor'], rope['long_factor']] as number[][];
  const times = number(rope, 'max_position_embeddings') / first;
  const size = times > 1 ? Math.sqrt(1 + Math.log(times) / Math.log(first)) : 1;
  return {
    ...{ type: 'longrope', shortFactors: short!, longFactors: long!, originalPositions: first },
    attention: number(rope, 'attention_factor', size),
  };
}

/** Settings of each type of scaling, from the dictionary of rotary settings. */
const scalings: Readonly<Record<string, (rope: Json) => ReferenceDims['ropeScaling']>> = {
  default: () => null,
  linear: (rope) => ({ type: 'linear', factor: number(rope, 'factor') }),
  llama3: (rope) => ({
    type: 'llama3',
    factor: number(rope, 'factor'),
    lowFreqFactor: number(rope, 'low_freq_factor'),
    highFreqFactor: number(rope, 'high_freq_factor'),
    originalPositions: number(rope, 'original_max_position_embeddings'),
  }),
  yarn: (rope) => {
    const factor = number(rope, 'factor');
    const size = (by: number) => 1 + (factor > 1 ? 0.1 * by * Math.log(factor) : 0);
    const [mscale, all] = [number(rope, 'mscale', 0), number(rope, 'mscale_all_dim', 0)];
    return {
      type: 'yarn',
      factor,
      originalPositions: number(rope, 'original_max_position_embeddings'),
      betaFast: number(rope, 'beta_fast', 32),
      betaSlow: number(rope, 'beta_slow', 1),
      attention: number(rope, 'attention_factor', mscale && all ? size(mscale) / size(all) : size(1)),
    };
  },
  longrope,
  su: longrope,
};

function referenceDims(config: Json): ReferenceDims {
  const family = familyOf(config);
  if (!families.includes(family)) {
    throw new Error(`config: model_type ${family} is not one of ${families.join(', ')}`);
  }
  for (const key of ['attention_bias', 'mlp_bias']) {
    if (config[key] === true) throw new Error(`config: ${key} is not covered by the reference`);
  }
  if ((config['hidden_act'] ?? 'silu') !== 'silu') throw new Error('config: hidden_act is not silu');
  const hidden = number(config, 'hidden_size');
  const qHeads = number(config, 'num_attention_heads');
  const scaling = (config['rope_scaling'] ?? {}) as Json;
  const rope = Object.keys(scaling).length > 0 ? scaling : ((config['rope_parameters'] ?? {}) as Json);
  const ropeType = rope['rope_type'] ?? rope['type'] ?? 'default';
  const readScaling = scalings[String(ropeType)];
  if (readScaling === undefined) {
    throw new Error(
      `config: rope type ${String(ropeType)} is not one of ${Object.keys(scalings).join(', ')}`,
    );
  }
  const headDim = number(config, 'head_dim', hidden / qHeads);
  const part = number(rope, 'partial_rotary_factor', number(config, 'partial_rotary_factor', 1));
  if (part !== 1 && family !== 'phi3') throw new Error('config: partial_rotary_factor is not 1');
  return {
    layers: number(config, 'num_hidden_layers'),
    hidden,
    ffn: number(config, 'intermediate_size'),
    qHeads,
    kvHeads: number(config, 'num_key_value_heads', qHeads),
    headDim,
    ...(part !== 1 && { rotated: Math.floor(headDim * part) }),
    vocab: number(config, 'vocab_size'),
    normEps: number(config, 'rms_norm_eps'),
    ropeTheta: number(rope, 'rope_theta', number(config, 'rope_theta', family === 'smollm3' ? 2e6 : 1e4)),
    maxPositions: number(config, 'max_position_embeddings'),
    ropeScaling: readScaling({
      ...rope,
      max_position_embeddings: config['max_position_embeddings'],
      original_max_position_embeddings:
        config['original_max_position_embeddings'] ??
        rope['original_max_position_embeddings'] ??
        config['max_position_embeddings'],
    }),
    qkNorm: family === 'qwen3',
    qkvBias: family === 'qwen2',
    tiedHead: (config['tie_word_embeddings'] ?? family === 'smollm3') === true,
    ...(family === 'granite' && granite(config)),
    ...layersOf(config, family, number(config, 'num_hidden_layers')),
  };
}

/** One kind a layer: what it sees, and whether it is rotated. */
function layersOf(config: Json, family: string, layers: number): Pick<ReferenceDims, 'kinds' | 'pattern'> {
  const kinds = Array.from({ length: layers }, (_, layer) => {
    const rope = family !== 'smollm3' || isRotated(config, layer);
    return { name: `layer${layer}`, window: windowOf(config, family, layer, rope), rope };
  });
  return { kinds, pattern: kinds.map(({ name }) => name) };
}

/** SmolLM3: all layers are but those with a 0 in no_rope_layers, or every fourth. */
function isRotated(config: Json, layer: number): boolean {
  const listed = config['no_rope_layers'] as readonly number[] | null | undefined;
  const interval = (config['no_rope_layer_interval'] ?? 4) as number;
  return listed ? Boolean(listed[layer]) : (layer + 1) % interval > 0;
}

/** Positions that a token sees in a layer. Without layer_types the layers from max_window_layers on have a window, and in SmolLM3 those that are
 *  not rotated; in Mistral and Phi-3 all. */
function windowOf(config: Json, family: string, layer: number, rope: boolean): number | null {
  const size = config['sliding_window'] as number | null | undefined;
  if (family === 'mistral') return size === undefined ? 4096 : size;
  if (family === 'phi3') return size ?? null;
  if (family === 'llama' || config['use_sliding_window'] !== true) return null;
  const types = config['layer_types'] as readonly string[] | null | undefined;
  const late = layer >= ((config['max_window_layers'] ?? 28) as number);
  const isLimited = types ? types[layer] === 'sliding_attention' : family === 'smollm3' ? !rope : late;
  return isLimited ? (size ?? null) : null;
}

/** In units of the embedding: the residual stream is not multiplied, what is added to it divided. */
function granite(config: Json): Pick<ReferenceDims, 'normEps' | 'factors'> {
  const m = number(config, 'embedding_multiplier', 1);
  return {
    normEps: number(config, 'rms_norm_eps') / (m * m),
    factors: {
      branch: number(config, 'residual_multiplier', 1) / m,
      scores: number(config, 'attention_multiplier', 1),
      logits: 1 / number(config, 'logits_scaling', 1),
    },
  };
}

const families = ['qwen3', 'qwen2', 'llama', 'mistral', 'smollm3', 'phi3', 'granite'];

interface Entry {
  readonly path: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Byte offset in the file. */
  readonly offset: number;
  readonly bytes: number;
}

function readEntries(dir: string) {
  const index = join(dir, 'model.safetensors.index.json');
  const single = join(dir, 'model.safetensors');
  const files = existsSync(single)
    ? ['model.safetensors']
    : [...new Set(Object.values(json(index)['weight_map'] as Record<string, string>))].sort();
  const entries = new Map<string, Entry>();
  for (const file of files) readHeader(join(dir, file), entries);
  return {
    /** Also under the name it has in a model saved without its head. */
    find: (name: string) => entries.get(name) ?? entries.get(name.replace(/^model\./, '')),
    bytesOf: ({ path, offset, bytes }: Entry) => readBytes(path, offset, bytes),
  };
}

function referenceTensors(
  dir: string,
  find: (name: string) => Entry | undefined,
  bytesOf: (entry: Entry) => ArrayBuffer,
  rounded: (name: string, values: Float32Array) => Float32Array,
  expanded: (name: string) => Float32Array | null,
): ReferenceTensors {
  const kept = new Map<string, Float32Array>();
  return (name) => {
    let values = kept.get(name) ?? expanded(name) ?? undefined;
    if (values) kept.set(name, values);
    else {
      // Of tied weights the head alone may be stored.
      const entry = find(name) ?? (name === 'model.embed_tokens.weight' ? find('lm_head.weight') : undefined);
      if (!entry) throw new Error(`no tensor ${name} in ${dir}`);
      values = rounded(name, toFloat32(name, entry.dtype, bytesOf(entry)));
      kept.set(name, values);
    }
    return values;
  };
}

/** A safetensors file opens with the header's length (8 bytes, little endian) and a JSON table; data offsets count from its end. */
function readHeader(path: string, into: Map<string, Entry>): void {
  const length = Number(new DataView(readBytes(path, 0, 8)).getBigUint64(0, true));
  const table = JSON.parse(new TextDecoder().decode(readBytes(path, 8, length))) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(table)) {
    if (name === '__metadata__') continue;
    into.set(name, {
      path,
      dtype,
      shape,
      offset: 8 + length + data_offsets[0],
      bytes: data_offsets[1] - data_offsets[0],
    });
  }
}

function readBytes(path: string, offset: number, bytes: number): ArrayBuffer {
  const out = new ArrayBuffer(bytes);
  const file = openSync(path, 'r');
  try {
    for (let done = 0; done < bytes; ) {
      const got = readSync(file, new Uint8Array(out, done, Math.min(bytes - done, 2 ** 30)), {
        position: offset + done,
      });
      if (got === 0)
        throw new Error(`${path} ends at byte ${offset + done}; ${offset + bytes} were promised`);
      done += got;
    }
  } finally {
    closeSync(file);
  }
  return out;
}

/** Exact widening; both formats are little endian in the file, as is every machine that Node runs on here. */
export function toFloat32(name: string, dtype: string, bytes: ArrayBuffer): Float32Array {
  if (dtype === 'F32') return new Float32Array(bytes);
  const halves = new Uint16Array(bytes);
  if (dtype === 'BF16') {
    const wide = new Uint32Array(halves.length);
    for (let i = 0; i < halves.length; i++) wide[i] = halves[i]! << 16;
    return new Float32Array(wide.buffer);
  }
  if (dtype === 'F16') return new Float32Array(halves).map(fromHalf);
  throw new Error(`tensor ${name} is ${dtype}; the reference reads BF16, F16 and F32`);
}

function fromHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25);
}
