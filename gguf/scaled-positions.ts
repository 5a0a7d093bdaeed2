// Scaled positions in the metadata of a GGUF file, as llama.cpp computes them for the architectures that are read here; rope-scaling.ts has those of Llama 3 and Phi-3.
import { decimal } from './decimal.ts';
import type { GgufFile } from './header.ts';
import { otherModel } from './refusals.ts';

/** Tensors by how much LongRoPE lowers frequencies, in the first context and in a longer one. */
export const longRopeFactors = { short: 'rope_factors_short.weight', long: 'rope_factors_long.weight' };

export type ScaledPositions =
  | { readonly type: 'linear'; readonly factor: number }
  | {
      readonly type: 'yarn';
      readonly factor: number;
      readonly originalPositions: number;
      readonly betaFast: number;
      readonly betaSlow: number;
      readonly attention: number;
    };

/** Keys, without the architecture before them, of what dims call so. */
export const scalingKeysOf = {
  factor: 'rope.scaling.factor',
  originalPositions: 'rope.scaling.original_context_length',
  attention: 'rope.scaling.attn_factor',
} as const;

/** Other settings of llama.cpp than these take the safetensors files. */
const asTransformers =
  'llama.cpp reads it for other architectures alone, transformers for all: use the safetensors files of this model.';

interface Reader {
  /** Of a key, without the architecture before it; undefined where there is none. */
  number(key: string): number | undefined;
  refuse(key: string, value: unknown, supported: string, hint?: string): void;
}

/**
 * YaRN turns pairs as transformers does with betas of 32 and 1. Cosines and sines are `attn_factor` times as large as YaRN says, so that 1 is transformers'
 * value by default; what else transformers may be told of YaRN llama.cpp leaves out here, and is refused unless it changes nothing.
 * Source: load_hparams in llama-model.cpp, the constructor of llama_context, rope_yarn of ggml; set_gguf_parameters of convert_hf_to_gguf.py.
 * @param maxPositions of the model, which are those before scaling where nothing else is said
 * @returns null for what scales nothing, what tensors say, and for what was refused
 */
export function readScaledPositions(
  { metadata, tensors }: GgufFile,
  architecture: string,
  maxPositions: number,
  { number, refuse }: Reader,
): ScaledPositions | null {
  if (Object.values(longRopeFactors).some((name) => tensors.has(name))) return null;
  // A factor without a type is linear.
  const type = metadata.get(`${architecture}.rope.scaling.type`) ?? 'linear';
  const factor = decimal((number(scalingKeysOf.factor) ?? number('rope.scale_linear')) || 1);
  const attention = number(scalingKeysOf.attention) ?? 1;
  if (type === 'yarn') {
    const usual = factor > 1 ? 0.1 * Math.log(factor) + 1 : 1;
    const unread = { ext_factor: 1, attn_factor: usual, beta_fast: 32, beta_slow: 1, log_multiplier: 0 };
    for (const [name, value] of Object.entries(unread)) {
      const key = `rope.scaling.yarn_${name}`;
      const said = number(key) ?? value;
      if (Math.fround(said) !== Math.fround(value)) refuse(key, said, String(value), asTransformers);
    }
    const originalPositions = number(scalingKeysOf.originalPositions) ?? maxPositions;
    return {
      type,
      factor,
      originalPositions,
      betaFast: 32,
      betaSlow: 1,
      attention: usual * decimal(attention),
    };
  }
  if (type !== 'linear' && type !== 'none')
    refuse(
      'rope.scaling.type',
      type,
      'none, linear, yarn, and the rope_freqs.weight of Llama 3',
      'Use a file of this model without scaled positions, if the context that it was trained on is enough.',
    );
  if (attention !== 1) refuse(scalingKeysOf.attention, attention, '1, but for yarn', otherModel);
  return type === 'linear' && factor !== 1 ? { type, factor } : null;
}
