// A model as the generator sees it: dimensions and a few switches. A model outside the supported families is refused by name.

import type { CacheFormat, Dtype, MatrixFormats } from './formats.ts';

/** What a config.json calls its architecture. */
export const families = ['qwen3', 'qwen2', 'llama', 'mistral', 'smollm3'] as const;

/** Llama 3's rescaling of the low rotary frequencies. */
export interface RopeScaling {
  readonly type: 'llama3';
  readonly factor: number;
  readonly lowFreqFactor: number;
  readonly highFreqFactor: number;
  readonly originalPositions: number;
}

/** What sets one kind of layers apart from another. All else is common to the layers of a model. */
export interface LayerKind {
  readonly name: string;
  /** Positions that a token sees, itself the last of them; null: all before it too. */
  readonly window: number | null;
  /** Queries and keys are rotated by their position. */
  readonly rope: boolean;
}

/** Letters used in doc comments everywhere: H hidden, F ffn, Q qHeads, K kvHeads, D headDim, V vocab, T tokens in a pass. */
export interface ModelDims {
  readonly name: string;
  readonly family: (typeof families)[number];
  /** Storage type of matrices and of the KV cache, unless `weights` and `cache` say otherwise. */
  readonly dtype: Dtype;
  /** Formats of matrices where some are in blocks. */
  readonly weights?: MatrixFormats;
  /** Format of the KV cache where its numbers share scales. */
  readonly cache?: CacheFormat;
  readonly layers: number;
  readonly hidden: number;
  readonly ffn: number;
  readonly qHeads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocab: number;
  /** The longest context the model was made for. */
  readonly maxPositions: number;
  readonly normEps: number;
  readonly ropeTheta: number;
  readonly ropeScaling: RopeScaling | null;
  /** RMSNorm on each q and k head (Qwen3). */
  readonly qkNorm: boolean;
  /** Bias on q, k and v (Qwen2). */
  readonly qkvBias: boolean;
  /** LM head and embedding are one matrix. */
  readonly tiedHead: boolean;
  readonly kinds: readonly LayerKind[];
  /** Names of kinds, repeated over the layers. */
  readonly pattern: readonly string[];
}
