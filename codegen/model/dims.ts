// A model as the generator sees it: dimensions and a few switches. A model outside the supported families is refused by name.

import type { CacheFormat, Dtype, MatrixFormats } from './formats.ts';

/** What a config.json calls its architecture. */
export const families = ['qwen3', 'qwen2', 'llama', 'mistral', 'smollm3', 'phi3', 'granite'] as const;

/** How rotary frequencies are lowered for a longer context: all alike, the low ones by Llama 3's or YaRN's rule, or each by a factor of its own. */
export type RopeScaling =
  | { readonly type: 'linear'; readonly factor: number }
  | {
      readonly type: 'llama3';
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      /** The context that the model was trained on first. */
      readonly originalPositions: number;
    }
  | {
      readonly type: 'yarn';
      readonly factor: number;
      /** The context that the model was trained on first. */
      readonly originalPositions: number;
      /** Pairs of a head that turn more often in it are kept, those that turn less than betaSlow times lowered by `factor`. */
      readonly betaFast: number;
      readonly betaSlow: number;
      /** Cosines and sines are as many times as large. */
      readonly attention: number;
    }
  | {
      readonly type: 'longrope';
      /** Of each pair of a head, where maxPositions are no more than originalPositions, and where they are more: [D/2]. */
      readonly shortFactors: readonly number[];
      readonly longFactors: readonly number[];
      /** The context that the model was trained on first. */
      readonly originalPositions: number;
      /** Cosines and sines are as many times as large. */
      readonly attention: number;
    };

/** What sets one kind of layers apart from another. All else is common to the layers of a model. */
export interface LayerKind {
  readonly name: string;
  /** Positions that a token sees, itself the last of them; null: all before it too. */
  readonly window: number | null;
  /** Queries and keys are rotated by their position. */
  readonly rope: boolean;
}

/** Numbers that a model multiplies by. */
export interface Factors {
  /** Outputs of attention and feed-forward part, where they are added to the residual stream. It is in units of the embedding, normEps too: a model that
   *  multiplies its embedding by m has 1 / m of its factor here, and 1 / m^2 of its eps. */
  readonly branch: number;
  /** Scores of attention, in the place of 1 / sqrt(D). */
  readonly scores: number;
  readonly logits: number;
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
  /** Numbers of a head that are rotated, the first ones, i with i + rotated / 2; left out: all D. */
  readonly rotated?: number;
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
  /** What Granite multiplies by; left out: 1, 1 / sqrt(D) and 1. */
  readonly factors?: Factors;
  readonly kinds: readonly LayerKind[];
  /** Names of kinds, repeated over the layers. */
  readonly pattern: readonly string[];
}
