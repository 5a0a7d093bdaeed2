// Llama 3's scaling of rotary frequencies, which a GGUF file holds as a factor for each frequency: the settings that they were made from.
import { closeSync, openSync, readSync } from 'node:fs';
import type { GgufFile } from './header.ts';
import { broken } from './refusals.ts';
import type { GgufShape } from './shape.ts';
import { ropeFactors } from './tensors.ts';

export interface RopeSettings {
  readonly type: 'llama3';
  readonly factor: number;
  readonly lowFreqFactor: number;
  readonly highFreqFactor: number;
  readonly originalPositions: number;
}

/** @returns null without factors, or if all are 1
 *  @throws OnelaunchError of kind usage for factors that no settings of Llama 3 give.
 *  Source: generate_extra_tensors of LlamaModel in convert_hf_to_gguf.py; Llama 3 in modeling_rope_utils.py of transformers. */
export function readRopeScaling(file: GgufFile, shape: GgufShape): RopeSettings | null {
  const tensor = file.tensors.get(ropeFactors);
  if (tensor === undefined) return null;
  const { headDim, ropeTheta } = shape;
  if (tensor.type.name !== 'F32' || tensor.shape.join() !== String(headDim / 2)) {
    throw broken(
      file.path,
      `has ${ropeFactors} as ${tensor.type.name} [${tensor.shape.join(', ')}], F32 [${headDim / 2}] is needed`,
    );
  }
  const factors = readFloats(file.path, tensor.offset, tensor.shape[0]!);
  if (factors.every((factor) => factor === 1)) return null;
  const found = findSettings(factors, ropeTheta, headDim);
  if (found !== undefined) return found;
  throw broken(
    file.path,
    `has in ${ropeFactors} factors that Llama 3's scaling of positions does not give`,
    'Other scalings, such as those of long contexts, are not computed: use a model without them.',
  );
}

function readFloats(path: string, offset: number, count: number): Float32Array {
  const floats = new Float32Array(count);
  const fd = openSync(path, 'r');
  try {
    readSync(fd, new Uint8Array(floats.buffer), { position: offset });
  } finally {
    closeSync(fd);
  }
  return floats;
}

/** Positions that a period of each frequency takes. */
const periods = (theta: number, headDim: number) =>
  Array.from({ length: headDim / 2 }, (_, i) => 2 * Math.PI * theta ** ((2 * i) / headDim));

/** The factors that settings give. */
function factorsOf(settings: RopeSettings, theta: number, headDim: number): number[] {
  const { factor, lowFreqFactor: low, highFreqFactor: high, originalPositions } = settings;
  return periods(theta, headDim).map((period) => {
    const turns = originalPositions / period;
    if (turns > high) return 1;
    if (turns < low) return factor;
    const smooth = (turns - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
  });
}

/** Only the ratios of the two bounds to the positions show in factors, so bounds of 1 and 4, which all Llamas have, are tried first:
 *  then one factor between them gives the positions; two give any bounds. */
function findSettings(factors: Float32Array, theta: number, headDim: number): RopeSettings | undefined {
  const factor = Math.max(...factors);
  const lengths = periods(theta, headDim);
  const between = [...factors.entries()]
    .filter(([, value]) => value > 1.0001 && value < factor * 0.9999)
    .map(([i, value]) => ({ period: lengths[i]!, smooth: (1 / value - 1 / factor) / (1 - 1 / factor) }));
  const settings = (positions: number, low = 1, high = 4): RopeSettings => ({
    ...{ type: 'llama3', factor, lowFreqFactor: low, highFreqFactor: high },
    originalPositions: Math.round(positions),
  });
  const powers = Array.from({ length: 25 }, (_, power) => settings(2 ** power));
  const usual = between.map(({ period, smooth }) => settings(period * (1 + 3 * smooth)));
  const [one, two] = [between[0], between.at(-1)];
  const positions = 8192;
  const fitted: RopeSettings[] = [];
  if (one && two && one !== two) {
    const slope = (one.smooth - two.smooth) / (1 / one.period - 1 / two.period);
    const start = one.smooth - slope / one.period;
    fitted.push(settings(positions, (-start * positions) / slope, ((1 - start) * positions) / slope));
  }
  return [...usual, ...powers, ...fitted].find((candidate) =>
    factorsOf(candidate, theta, headDim).every((value, i) => Math.abs(value / factors[i]! - 1) < 1e-4),
  );
}
