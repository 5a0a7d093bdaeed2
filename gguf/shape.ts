// The sizes and settings of the model in a GGUF file. Architectures and settings that no kernel computes are refused by name.
import { gather, OnelaunchError } from '../errors.ts';
import { decimal } from './decimal.ts';
import type { GgufFile } from './header.ts';
import { type Metadata, metadataOf } from './metadata.ts';
import { broken, otherModel, shown, unsupportedIn } from './refusals.ts';
import { readScaledPositions, type ScaledPositions } from './scaled-positions.ts';

const architectures = ['qwen3', 'qwen2', 'llama', 'smollm3', 'phi3', 'granite'] as const;
type Architecture = (typeof architectures)[number];

/** Letters as in a model's dims; NaN for what the file lacks. */
export interface GgufShape {
  readonly architecture: Architecture;
  readonly layers: number;
  readonly hidden: number;
  readonly ffn: number;
  readonly qHeads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Numbers of a head that are rotated, where Phi-3 rotates not all. */
  readonly rotated?: number;
  readonly vocab: number;
  readonly maxPositions: number;
  readonly normEps: number;
  readonly ropeTheta: number;
  /** What Granite multiplies by: embedding, branches, scores; and what it divides logits by. */
  readonly scales?: Readonly<Record<keyof typeof scaleKeys, number>>;
  /** Positions that a token of Phi-3 sees; null: all before it. */
  readonly window: number | null;
  /** As the metadata has it; that of Llama 3 is in a tensor. */
  readonly scaled: ScaledPositions | null;
}

/** The keys that sizes come from, without the architecture before them. */
export const shapeKeys = {
  layers: 'block_count',
  hidden: 'embedding_length',
  ffn: 'feed_forward_length',
  qHeads: 'attention.head_count',
  kvHeads: 'attention.head_count_kv',
  headDim: 'attention.key_length',
  rotated: 'rope.dimension_count',
  maxPositions: 'context_length',
  normEps: 'attention.layer_norm_rms_epsilon',
  ropeTheta: 'rope.freq_base',
} as const;

/** Scales of Granite, in the file and to those who read its config.json. */
const scaleKeys = {
  embedding: 'embedding_scale',
  branch: 'residual_scale',
  scores: 'attention.scale',
  logits: 'logit_scale',
} as const;

/** @throws OnelaunchError of kind usage, with all that is wrong. */
export function readShape(file: GgufFile): GgufShape {
  const all = metadataOf(file);
  const architecture = findArchitecture(file, all);
  const problems: OnelaunchError[] = [];
  const number = (key: string) => {
    try {
      return all.number(`${architecture}.${key}`);
    } catch (error) {
      if (!(error instanceof OnelaunchError)) throw error;
      problems.push(error);
      return undefined;
    }
  };
  const needed = (key: string): number => {
    const value = number(key);
    if (value === undefined && !file.metadata.has(`${architecture}.${key}`))
      problems.push(broken(file.path, `lacks ${architecture}.${key}`));
    return value ?? Number.NaN;
  };
  const embedding = file.tensors.get('token_embd.weight');
  if (embedding?.shape[1] === undefined)
    problems.push(broken(file.path, 'lacks token_embd.weight, the embedding'));
  const hidden = needed(shapeKeys.hidden);
  const qHeads = needed(shapeKeys.qHeads);
  const refuse = (key: string, value: unknown, supported: string, hint = otherModel) => {
    const setting = `${architecture}.${key}`;
    const what = `has ${setting} ${shown(value)}, supported: ${supported}`;
    problems.push(unsupportedIn(file.path, what, { modelType: architecture, setting, hint }));
  };
  const maxPositions = needed(shapeKeys.maxPositions);
  const headDim = number(shapeKeys.headDim) ?? hidden / qHeads;
  const rotated = architecture === 'phi3' ? (number(shapeKeys.rotated) ?? headDim) : headDim;
  const shape: GgufShape = {
    architecture,
    hidden,
    qHeads,
    layers: needed(shapeKeys.layers),
    ffn: needed(shapeKeys.ffn),
    kvHeads: number(shapeKeys.kvHeads) ?? qHeads,
    headDim,
    ...(rotated !== headDim && { rotated }),
    ...(architecture === 'granite' && { scales: readScales(number, headDim) }),
    vocab: embedding?.shape[1] ?? Number.NaN,
    maxPositions,
    normEps: decimal(needed(shapeKeys.normEps)),
    ropeTheta: decimal(number(shapeKeys.ropeTheta) ?? 10000),
    window: (architecture === 'phi3' && number('attention.sliding_window')) || null,
    scaled: readScaledPositions(file, architecture, maxPositions, { number, refuse }),
  };
  refuseUncomputed(shape, number, refuse);
  if (problems.length > 0) throw gather(problems);
  return shape;
}

/** As llama.cpp has it, 0 and what is left out is 1, and 1 / sqrt(headDim) for scores. */
function readScales(
  number: (key: string) => number | undefined,
  headDim: number,
): NonNullable<GgufShape['scales']> {
  const of = (key: string, otherwise: number) => decimal(number(key) || otherwise);
  return {
    embedding: of(scaleKeys.embedding, 1),
    branch: of(scaleKeys.branch, 1),
    scores: of(scaleKeys.scores, 1 / Math.sqrt(headDim)),
    logits: of(scaleKeys.logits, 1),
  };
}

function findArchitecture({ path }: GgufFile, metadata: Metadata): Architecture {
  const value = metadata.text('general.architecture');
  const found = architectures.find((one) => one === value);
  if (found !== undefined) return found;
  const what =
    value === undefined
      ? 'lacks general.architecture'
      : `has general.architecture ${shown(value)}, supported: ${architectures.join(', ')}`;
  throw unsupportedIn(path, what, { modelType: value, setting: 'general.architecture' });
}

/** Settings that change what a model computes, and that no kernel here follows. */
function refuseUncomputed(
  shape: GgufShape,
  number: (key: string) => number | undefined,
  refuse: (key: string, value: unknown, supported: string, hint?: string) => void,
): void {
  const only = (key: string, supported: number) => {
    const value = number(key);
    if (value !== undefined && value !== supported) refuse(key, value, String(supported));
  };
  only('expert_count', 0);
  only('attention.value_length', shape.headDim);
  if (shape.architecture !== 'phi3') only(shapeKeys.rotated, shape.headDim);
  only('attention.clamp_kqv', 0);
  only('attention.max_alibi_bias', 0);
  for (const key of Object.values(scaleKeys)) {
    const value = number(key) ?? 0;
    if (shape.architecture !== 'granite' && value !== 0) refuse(key, value, 'none');
  }
  const window = number('attention.sliding_window') ?? 0;
  if (shape.architecture !== 'phi3' && window > 0 && window < shape.maxPositions)
    refuse(
      'attention.sliding_window',
      window,
      'none',
      'Use the safetensors files of this model, which say which layers have a window.',
    );
}
