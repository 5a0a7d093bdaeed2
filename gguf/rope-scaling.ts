// Scalings of rotary frequencies, which a GGUF file holds as a factor for each frequency: of Llama 3's the settings that they were made from.
import { closeSync, openSync } from 'node:fs';
import { readInto } from '../files/plain-file.ts';
import { decimal } from './decimal.ts';
import type { GgufFile } from './header.ts';
import { metadataOf } from './metadata.ts';
import { broken, otherModel } from './refusals.ts';
import { longRopeFactors } from './scaled-positions.ts';
import type { GgufShape } from './shape.ts';
import { ropeFactors } from './tensors.ts';

export interface RopeSettings {
  readonly type: 'llama3';
  readonly factor: number;
  readonly lowFreqFactor: number;
  readonly highFreqFactor: number;
  readonly originalPositions: number;
}

export interface LongRopeSettings {
  readonly type: 'longrope';
  readonly shortFactors: readonly number[];
  readonly longFactors: readonly number[];
  readonly originalPositions: number;
  readonly attention: number;
}

/** @returns null without factors, or if all are 1
 *  @throws OnelaunchError of kind usage for factors that no settings of Llama 3 give, or beside other scaled positions.
 *  Source: generate_extra_tensors of LlamaModel in convert_hf_to_gguf.py; Llama 3 in modeling_rope_utils.py of transformers. */
export function readRopeScaling(file: GgufFile, shape: GgufShape): RopeSettings | null {
  const { headDim, ropeTheta } = shape;
  const factors = factorsIn(file, ropeFactors, headDim / 2);
  if (factors === null || factors.every((factor) => factor === 1)) return null;
  if (shape.scaled !== null)
    throw broken(
      file.path,
      `has ${ropeFactors}, and scaled positions of type ${shape.scaled.type} beside it`,
      otherModel,
    );
  const found = findSettings(factors, ropeTheta, headDim);
  if (found !== undefined) return found;
  throw broken(
    file.path,
    `has in ${ropeFactors} factors that Llama 3's scaling of positions does not give`,
    'Other scalings, such as those of long contexts, are not computed: use a model without them.',
  );
}

/** A factor for each rotated pair of a head; null: the file has no such tensor. */
function factorsIn({ path, tensors }: GgufFile, name: string, pairs: number): Float32Array | null {
  const tensor = tensors.get(name);
  if (tensor === undefined) return null;
  if (tensor.type.name !== 'F32' || tensor.shape.join() !== String(pairs)) {
    const found = `${tensor.type.name} [${tensor.shape.join(', ')}]`;
    throw broken(path, `has ${name} as ${found}, F32 [${pairs}] is needed`);
  }
  return readFloats(path, tensor.offset, tensor.shape[0]!);
}

/** LongRoPE's settings, of Phi-3; null without its factors. @throws OnelaunchError of kind usage where some are there and others not
 *  Source: Phi3MiniModel in convert_hf_to_gguf.py, whose file has the factor of cosines and sines, as float32. */
export function readLongRope(
  file: GgufFile,
  { headDim, rotated, architecture }: GgufShape,
): LongRopeSettings | null {
  const [short, long] = [longRopeFactors.short, longRopeFactors.long].map((name) =>
    factorsIn(file, name, (rotated ?? headDim) / 2),
  ) as [Float32Array | null, Float32Array | null];
  if (short === null && long === null) return null;
  const all = metadataOf(file);
  const key = (name: string) => `${architecture}.rope.scaling.${name}`;
  const originalPositions = all.number(key('original_context_length'));
  if (short === null || long === null || originalPositions === undefined) {
    const lacked = short === null ? longRopeFactors.short : longRopeFactors.long;
    throw broken(file.path, `lacks ${short && long ? key('original_context_length') : lacked}`);
  }
  const [shortFactors, longFactors] = [short, long].map((factors) => [...factors].map(decimal)) as [
    number[],
    number[],
  ];
  const attention = all.number(key('attn_factor')) ?? 1;
  return { type: 'longrope', shortFactors, longFactors, originalPositions, attention };
}

function readFloats(path: string, offset: number, count: number): Float32Array {
  const floats = new Float32Array(count);
  const fd = openSync(path, 'r');
  try {
    readInto(new Uint8Array(floats.buffer), fd, path, offset);
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
