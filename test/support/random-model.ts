// Hugging Face directories of any dims with seeded random weights, for tests.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeSafetensors } from '../../runtime/weights/safetensors.ts';

export interface RandomModel {
  readonly type: 'qwen3' | 'qwen2' | 'llama';
  readonly dtype: 'bfloat16' | 'float16' | 'float32';
  readonly hidden: number;
  readonly ffn: number;
  readonly layers: number;
  readonly qHeads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocab: number;
  readonly tied: boolean;
  readonly rope?: Record<string, unknown>;
}

/** Writes config.json and model.safetensors. Weights are scaled so that activations neither grow nor vanish. */
export function writeRandomModel(folder: string, m: RandomModel, seed = 1): void {
  mkdirSync(folder, { recursive: true });
  const config = {
    architectures: [
      { qwen3: 'Qwen3ForCausalLM', qwen2: 'Qwen2ForCausalLM', llama: 'LlamaForCausalLM' }[m.type],
    ],
    model_type: m.type,
    dtype: m.dtype,
    hidden_size: m.hidden,
    intermediate_size: m.ffn,
    num_hidden_layers: m.layers,
    num_attention_heads: m.qHeads,
    num_key_value_heads: m.kvHeads,
    head_dim: m.headDim,
    vocab_size: m.vocab,
    max_position_embeddings: 256,
    rms_norm_eps: 1e-6,
    hidden_act: 'silu',
    rope_parameters: m.rope ?? { rope_type: 'default', rope_theta: 10000 },
    tie_word_embeddings: m.tied,
  };
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  const normal = gaussian(seed);
  const tensors: Record<string, { dtype: string; shape: number[]; data: Uint8Array }> = {};
  const put = (name: string, shape: number[], mean: number, scale: number) => {
    const values = Float32Array.from(
      { length: shape.reduce((a, b) => a * b) },
      () => mean + scale * normal(),
    );
    const dtype = { bfloat16: 'BF16', float16: 'F16', float32: 'F32' }[m.dtype];
    tensors[name] = { dtype, shape, data: encode(values, m.dtype) };
  };
  const matrix = (name: string, rows: number, columns: number) =>
    put(name, [rows, columns], 0, 1.3 / Math.sqrt(columns));
  const qDim = m.qHeads * m.headDim;
  const kvDim = m.kvHeads * m.headDim;
  put('model.embed_tokens.weight', [m.vocab, m.hidden], 0, 0.5);
  for (let layer = 0; layer < m.layers; layer++) {
    const at = `model.layers.${layer}`;
    put(`${at}.input_layernorm.weight`, [m.hidden], 1, 0.2);
    put(`${at}.post_attention_layernorm.weight`, [m.hidden], 1, 0.2);
    for (const [name, rows] of [
      ['q', qDim],
      ['k', kvDim],
      ['v', kvDim],
    ] as const) {
      matrix(`${at}.self_attn.${name}_proj.weight`, rows, m.hidden);
      if (m.type === 'qwen2') put(`${at}.self_attn.${name}_proj.bias`, [rows], 0, 0.3);
    }
    if (m.type === 'qwen3') {
      put(`${at}.self_attn.q_norm.weight`, [m.headDim], 1, 0.2);
      put(`${at}.self_attn.k_norm.weight`, [m.headDim], 1, 0.2);
    }
    matrix(`${at}.self_attn.o_proj.weight`, m.hidden, qDim);
    matrix(`${at}.mlp.gate_proj.weight`, m.ffn, m.hidden);
    matrix(`${at}.mlp.up_proj.weight`, m.ffn, m.hidden);
    matrix(`${at}.mlp.down_proj.weight`, m.hidden, m.ffn);
  }
  put('model.norm.weight', [m.hidden], 1, 0.2);
  if (!m.tied) put('lm_head.weight', [m.vocab, m.hidden], 0, 0.5);
  writeSafetensors(join(folder, 'model.safetensors'), tensors);
}

/** Standard normal numbers from a seed: a linear congruential generator and Box and Muller's transform. */
function gaussian(seed: number): () => number {
  let state = (seed * 2654435761) >>> 0;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}

function encode(values: Float32Array, dtype: RandomModel['dtype']): Uint8Array {
  if (dtype === 'float32') return new Uint8Array(values.buffer);
  const half = dtype === 'bfloat16' ? toBf16 : toFp16;
  return new Uint8Array(new Uint16Array(values.map(half)).buffer);
}

/** Nearest bf16, ties to even. */
function toBf16(value: number): number {
  const bits = new Uint32Array(Float32Array.of(value).buffer)[0]!;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** Truncated to fp16: any fp16 number will do for a random weight. Numbers below 2^-14 become zero. */
function toFp16(value: number): number {
  const bits = new Uint32Array(Float32Array.of(value).buffer)[0]!;
  const exponent = ((bits >>> 23) & 0xff) - 112;
  return exponent <= 0 ? 0 : ((bits >>> 16) & 0x8000) | (exponent << 10) | ((bits >>> 13) & 0x3ff);
}
