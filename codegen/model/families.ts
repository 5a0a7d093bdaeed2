// What sets the config.json of one family apart from that of another.
import type { ModelDims } from './dims.ts';

interface FamilyFacts {
  /** The names in `architectures` begin with it. */
  readonly architecture: string;
  /** RMSNorm on each q and k head. */
  readonly qkNorm: boolean;
  /** Bias on q, k and v, always. */
  readonly qkvBias: boolean;
  /** Layers that see a window: none; all, where sliding_window is set; or where use_sliding_window is true the late ones, or those that are not
   *  rotated, which no other family has. */
  readonly windows: 'none' | 'all' | 'late' | 'unrotated';
  /** Of a head only the first numbers may be rotated: partial_rotary_factor. */
  readonly partlyRotated: boolean;
  /** Bias in the MLP by mlp_bias, a key that other families do not have. */
  readonly mlpBias: boolean;
  /** Multiplies embedding, branches, scores and logits by numbers of its config.json. */
  readonly multiplies: boolean;
  /** What a missing key is to transformers; null: as many as query heads, or hidden by those. */
  readonly missing: {
    readonly kvHeads: number | null;
    readonly headDim: number | null;
    readonly normEps: number;
    readonly ropeTheta: number;
    /** Positions, of layers that have one; null: none. */
    readonly window: number | null;
    readonly tiedHead: boolean;
  };
}

const missing = {
  kvHeads: null,
  headDim: null,
  normEps: 1e-6,
  ropeTheta: 10_000,
  window: 4096,
  tiedHead: false,
};
const plain = {
  qkNorm: false,
  qkvBias: false,
  windows: 'none',
  mlpBias: false,
  multiplies: false,
  partlyRotated: false,
} as const;

/** Source: Qwen3Config, Qwen2Config, LlamaConfig, MistralConfig, SmolLM3Config, Phi3Config and GraniteConfig of transformers 5. */
export const familyFacts: Readonly<Record<ModelDims['family'], FamilyFacts>> = {
  qwen3: {
    ...{ ...plain, architecture: 'Qwen3', qkNorm: true, windows: 'late' },
    missing: { ...missing, kvHeads: 32, headDim: 128 },
  },
  qwen2: {
    ...{ ...plain, architecture: 'Qwen2', qkvBias: true, windows: 'late' },
    missing: { ...missing, kvHeads: 32 },
  },
  llama: { ...plain, architecture: 'Llama', mlpBias: true, missing },
  mistral: { ...plain, architecture: 'Mistral', windows: 'all', missing: { ...missing, kvHeads: 8 } },
  smollm3: {
    ...{ ...plain, architecture: 'SmolLM3', windows: 'unrotated', mlpBias: true },
    missing: { ...missing, kvHeads: 4, ropeTheta: 2_000_000, window: null, tiedHead: true },
  },
  phi3: {
    ...plain,
    architecture: 'Phi3',
    partlyRotated: true,
    windows: 'all',
    missing: { ...missing, normEps: 1e-5, window: null },
  },
  granite: { ...plain, architecture: 'Granite', mlpBias: true, multiplies: true, missing },
};
