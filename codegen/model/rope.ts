// Rotary frequencies as transformers computes them, in float32.
import type { ModelDims } from './dims.ts';

/**
 * The angle that position 1 turns each pair of a head by: [D/2], float32.
 * Source: Su et al. 2021, section 3.2.2; llama3: Hugging Face `_compute_llama3_parameters`.
 */
export function inverseFrequencies(dims: ModelDims): number[] {
  const { headDim, ropeTheta, ropeScaling } = dims;
  return Array.from({ length: headDim / 2 }, (_, i) => {
    const frequency = Math.fround(1 / Math.fround(ropeTheta ** Math.fround((2 * i) / headDim)));
    return ropeScaling ? llama3(frequency, ropeScaling) : frequency;
  });
}

/** Long wavelengths are stretched by `factor`, short ones kept, those between blended. */
function llama3(frequency: number, s: NonNullable<ModelDims['ropeScaling']>): number {
  const wavelength = (2 * Math.PI) / frequency;
  if (wavelength < s.originalPositions / s.highFreqFactor) return frequency;
  if (wavelength > s.originalPositions / s.lowFreqFactor) return Math.fround(frequency / s.factor);
  const smooth = (s.originalPositions / wavelength - s.lowFreqFactor) / (s.highFreqFactor - s.lowFreqFactor);
  return Math.fround(((1 - smooth) * frequency) / s.factor + smooth * frequency);
}
