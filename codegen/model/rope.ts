// Rotary frequencies as transformers computes them, in float32.
import type { ModelDims, RopeScaling } from './dims.ts';

type Scaling<Type extends RopeScaling['type']> = Extract<RopeScaling, { type: Type }>;
type Head = Pick<ModelDims, 'headDim' | 'rotated' | 'ropeTheta'>;

/** Numbers of a head that are rotated. */
export const rotatedOf = ({ headDim, rotated }: Pick<ModelDims, 'headDim' | 'rotated'>): number =>
  rotated ?? headDim;

/**
 * The angle that position 1 turns each pair of a head by: [D/2], float32; 0 for those that are not rotated, which are the last.
 * Source: Su et al. 2021, section 3.2.2; for longer contexts Hugging Face `modeling_rope_utils.py`.
 */
export function inverseFrequencies(dims: ModelDims): number[] {
  const { headDim, ropeTheta, ropeScaling: scaling } = dims;
  const rotated = rotatedOf(dims);
  return Array.from({ length: headDim / 2 }, (_, i) => {
    if (i >= rotated / 2) return 0;
    const period = Math.fround(ropeTheta ** Math.fround((2 * i) / rotated));
    const frequency = Math.fround(1 / period);
    if (scaling === null) return frequency;
    if (scaling.type === 'linear') return Math.fround(frequency / scaling.factor);
    if (scaling.type === 'longrope') return Math.fround(1 / Math.fround(factorOf(i, scaling, dims) * period));
    return scaling.type === 'llama3' ? llama3(frequency, scaling) : yarn(i, period, scaling, dims);
  });
}

/** How many times as large cosines and sines of rotated pairs are in tables: once where all pairs are rotated, as then the scale of scores has it. */
export const rotatedSize = ({ rotated, ropeScaling }: Pick<ModelDims, 'rotated' | 'ropeScaling'>): number =>
  rotated === undefined ? 1 : Math.fround(largerBy(ropeScaling));

/** What scores of attention are multiplied with: larger cosines and sines make them so many times as large twice, by query and by key. */
export function attentionScale({ headDim, rotated, ropeScaling, factors }: ModelDims): number {
  const attention = rotated === undefined ? largerBy(ropeScaling) : 1;
  return attention ** 2 * (factors?.scores ?? 1 / Math.sqrt(headDim));
}

/** How many times as large cosines and sines are. */
export const largerBy = (scaling: RopeScaling | null): number =>
  scaling !== null && 'attention' in scaling ? scaling.attention : 1;

/** Ding et al. 2024, as _compute_longrope_parameters of transformers has it: a context longer than the first has factors of its own. */
function factorOf(
  i: number,
  s: Scaling<'longrope'>,
  { maxPositions }: Pick<ModelDims, 'maxPositions'>,
): number {
  const factors = maxPositions > s.originalPositions ? s.longFactors : s.shortFactors;
  return Math.fround(factors[i]!);
}

/** Pairs that turn often are kept, those that turn seldom lowered, and between a straight line over the pairs. Source: Peng et al. 2023, section 3.2. */
function yarn(i: number, period: number, s: Scaling<'yarn'>, { ropeTheta, ...head }: Head): number {
  const rotated = rotatedOf(head);
  const pairThatTurns = (times: number) =>
    (rotated * Math.log(s.originalPositions / (times * 2 * Math.PI))) / (2 * Math.log(ropeTheta));
  const first = Math.max(Math.floor(pairThatTurns(s.betaFast)), 0);
  const last = Math.min(Math.ceil(pairThatTurns(s.betaSlow)), rotated - 1);
  const along = (i - first) / (last - first || 0.001);
  const lowered = Math.fround(Math.min(1, Math.max(0, along)));
  const kept = Math.fround(1 - lowered);
  return Math.fround(
    Math.fround(1 / Math.fround(s.factor * period)) * Math.fround(1 - kept) + Math.fround(1 / period) * kept,
  );
}

/** Long wavelengths are stretched by `factor`, short ones kept, those between blended. */
function llama3(frequency: number, s: Scaling<'llama3'>): number {
  const wavelength = (2 * Math.PI) / frequency;
  if (wavelength < s.originalPositions / s.highFreqFactor) return frequency;
  if (wavelength > s.originalPositions / s.lowFreqFactor) return Math.fround(frequency / s.factor);
  const smooth = (s.originalPositions / wavelength - s.lowFreqFactor) / (s.highFreqFactor - s.lowFreqFactor);
  return Math.fround(((1 - smooth) * frequency) / s.factor + smooth * frequency);
}
