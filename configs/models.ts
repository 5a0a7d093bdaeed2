// Models known by name. Any other one is read from the config.json of its directory.
import type { ModelDims } from '../codegen/model/dims.ts';
import { oneKind } from '../codegen/model/kinds.ts';

type Shape = Omit<ModelDims, 'family' | 'dtype' | 'ropeScaling' | 'qkNorm' | 'qkvBias' | 'kinds' | 'pattern'>;

const qwen3 = (shape: Shape): ModelDims => ({
  ...shape,
  ...oneKind,
  family: 'qwen3',
  dtype: 'bf16',
  ropeScaling: null,
  qkNorm: true,
  qkvBias: false,
});

const llama = (shape: Shape, ropeScaling: ModelDims['ropeScaling'] = null): ModelDims => ({
  ...shape,
  ...oneKind,
  family: 'llama',
  dtype: 'bf16',
  ropeScaling,
  qkNorm: false,
  qkvBias: false,
});

/** SmolLM3: every fourth layer knows no positions. */
const everyFourthUnrotated: Pick<ModelDims, 'kinds' | 'pattern'> = {
  kinds: [
    { name: 'full', window: null, rope: true },
    { name: 'unrotated', window: null, rope: false },
  ],
  pattern: ['full', 'full', 'full', 'unrotated'],
};

/** What all Qwen3 checkpoints of these sizes share. */
const qwen3Common = {
  kvHeads: 8,
  headDim: 128,
  vocab: 151936,
  maxPositions: 40960,
  normEps: 1e-6,
  ropeTheta: 1e6,
};

/** What the small Llama 3.2 checkpoints share. */
const llama32Common = {
  ffn: 8192,
  kvHeads: 8,
  vocab: 128256,
  maxPositions: 131072,
  normEps: 1e-5,
  ropeTheta: 5e5,
  tiedHead: true,
};

const llama3Scaling = {
  type: 'llama3',
  factor: 32,
  lowFreqFactor: 1,
  highFreqFactor: 4,
  originalPositions: 8192,
} as const;

const smollm2Common = {
  headDim: 64,
  vocab: 49152,
  maxPositions: 8192,
  normEps: 1e-5,
  ropeTheta: 1e5,
  tiedHead: true,
};

export const models: readonly ModelDims[] = [
  qwen3({
    name: 'qwen3-tiny',
    layers: 6,
    hidden: 256,
    ffn: 768,
    qHeads: 4,
    kvHeads: 2,
    headDim: 64,
    vocab: 4096,
    maxPositions: 1024,
    normEps: 1e-6,
    ropeTheta: 1e6,
    tiedHead: true,
  }),
  qwen3({
    ...qwen3Common,
    name: 'qwen3-0.6b',
    layers: 28,
    hidden: 1024,
    ffn: 3072,
    qHeads: 16,
    tiedHead: true,
  }),
  qwen3({
    ...qwen3Common,
    name: 'qwen3-1.7b',
    layers: 28,
    hidden: 2048,
    ffn: 6144,
    qHeads: 16,
    tiedHead: true,
  }),
  qwen3({
    ...qwen3Common,
    name: 'qwen3-4b',
    layers: 36,
    hidden: 2560,
    ffn: 9728,
    qHeads: 32,
    tiedHead: true,
  }),
  qwen3({
    ...qwen3Common,
    name: 'qwen3-8b',
    layers: 36,
    hidden: 4096,
    ffn: 12288,
    qHeads: 32,
    tiedHead: false,
  }),
  llama(
    { ...llama32Common, name: 'llama-3.2-1b', layers: 16, hidden: 2048, qHeads: 32, headDim: 64 },
    llama3Scaling,
  ),
  llama(
    { ...llama32Common, name: 'llama-3.2-3b', layers: 28, hidden: 3072, qHeads: 24, headDim: 128 },
    llama3Scaling,
  ),
  {
    name: 'qwen2.5-0.5b',
    family: 'qwen2',
    dtype: 'bf16',
    layers: 24,
    hidden: 896,
    ffn: 4864,
    qHeads: 14,
    kvHeads: 2,
    headDim: 64,
    vocab: 151936,
    maxPositions: 32768,
    normEps: 1e-6,
    ropeTheta: 1e6,
    ropeScaling: null,
    qkNorm: false,
    qkvBias: true,
    tiedHead: true,
    ...oneKind,
  },
  llama({
    ...smollm2Common,
    name: 'smollm2-135m',
    layers: 30,
    hidden: 576,
    ffn: 1536,
    qHeads: 9,
    kvHeads: 3,
  }),
  llama({
    ...smollm2Common,
    name: 'smollm2-360m',
    layers: 32,
    hidden: 960,
    ffn: 2560,
    qHeads: 15,
    kvHeads: 5,
  }),
  {
    name: 'smollm3-3b',
    family: 'smollm3',
    dtype: 'bf16',
    layers: 36,
    hidden: 2048,
    ffn: 11008,
    qHeads: 16,
    kvHeads: 4,
    headDim: 128,
    vocab: 128256,
    maxPositions: 65536,
    normEps: 1e-6,
    ropeTheta: 5e6,
    ropeScaling: null,
    qkNorm: false,
    qkvBias: false,
    tiedHead: true,
    ...everyFourthUnrotated,
  },
];

/** Where the weights of a known name are on the Hugging Face Hub: the model of that very name there. The bundled one has none. */
export const hubIds: ReadonlyMap<string, string> = new Map([
  ['qwen3-0.6b', 'Qwen/Qwen3-0.6B'],
  ['qwen3-1.7b', 'Qwen/Qwen3-1.7B'],
  ['qwen3-4b', 'Qwen/Qwen3-4B'],
  ['qwen3-8b', 'Qwen/Qwen3-8B'],
  ['llama-3.2-1b', 'meta-llama/Llama-3.2-1B'],
  ['llama-3.2-3b', 'meta-llama/Llama-3.2-3B'],
  ['qwen2.5-0.5b', 'Qwen/Qwen2.5-0.5B'],
  ['smollm2-135m', 'HuggingFaceTB/SmolLM2-135M'],
  ['smollm2-360m', 'HuggingFaceTB/SmolLM2-360M'],
  ['smollm3-3b', 'HuggingFaceTB/SmolLM3-3B'],
]);
