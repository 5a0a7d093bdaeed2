// What is wrong with the dims of a model, told in the keys of the file that they came from.
import { gather, ModelNotSupportedError, OnelaunchError } from '../../errors.ts';
import { otherModel } from '../../gguf/refusals.ts';
import { families, type ModelDims } from './dims.ts';

export interface Problem {
  /** The key to blame, as the user wrote it. */
  readonly key: string;
  readonly text: string;
  readonly hint: string;
  /** The file is whole, and no kernel computes what it says. */
  readonly isUnsupported?: true;
}

/** The largest size of each kind that is believed: far above every published model, and positions are exact in float32. */
export const mostOf = {
  layers: 1024,
  hidden: 65536,
  ffn: 262144,
  qHeads: 1024,
  kvHeads: 1024,
  headDim: 1024,
  vocab: 4194304,
  maxPositions: 16777216,
} as const;

const scalingKeys = [
  ...(['factor', 'lowFreqFactor', 'highFreqFactor', 'originalPositions'] as const),
  ...(['betaFast', 'betaSlow', 'attention', 'shortFactors', 'longFactors'] as const),
];
type Key = keyof typeof mostOf | 'rotated' | 'normEps' | 'ropeTheta' | (typeof scalingKeys)[number];
export type Keys = Readonly<Record<Key, string>>;

/** Dims written in TypeScript have their own names. */
export const dimsKeys = Object.fromEntries(
  [...Object.keys(mostOf), 'rotated', 'normEps', 'ropeTheta', ...scalingKeys].map((key) => [key, key]),
) as Keys;

/** A value in the words of whoever wrote these keys: JSON has no NaN, in a config it stands for what is not there. */
export const shownIn =
  (keys: Keys) =>
  (value: unknown): string =>
    Number.isNaN(value) && keys !== dimsKeys ? 'missing' : show(value);

/** What is wrong with the dims, but for scaled positions. */
export function findProblems(dims: ModelDims, keys: Keys): Problem[] {
  const problems: Problem[] = [];
  const wrong = (key: string, text: string, hint = copyAgain) =>
    problems.push({ key, text: `${key} ${text}`, hint });
  const shown = shownIn(keys);
  const isCount = (value: unknown, most: number) =>
    Number.isInteger(value) && Number(value) >= 1 && Number(value) <= most;
  const isBetween = (value: unknown, least: number, most: number) =>
    typeof value === 'number' && value >= least && value <= most;

  for (const [key, most] of Object.entries(mostOf) as [keyof typeof mostOf, number][]) {
    // A head_dim that follows from two wrong numbers is not a third mistake.
    if (
      key === 'headDim' &&
      Number.isNaN(dims.headDim) &&
      (Number.isNaN(dims.hidden) || Number.isNaN(dims.qHeads))
    )
      continue;
    if (!isCount(dims[key], most))
      wrong(keys[key], `is ${shown(dims[key])}, must be a whole number from 1 to ${most}`);
  }
  if (isCount(dims.headDim, mostOf.headDim) && dims.headDim % 2 !== 0) {
    wrong(
      keys.headDim,
      `is ${dims.headDim}, must be even`,
      'Rotary embedding turns the two halves of a head together.',
    );
  }
  const { rotated, headDim } = dims;
  if (rotated !== undefined && isCount(headDim, mostOf.headDim)) {
    if (!isCount(rotated, headDim - 1) || rotated % 2 !== 0) {
      const text = `rotates ${shown(rotated)} numbers of a head of ${headDim}, must be an even number from 2 to ${headDim - 1}`;
      wrong(keys.rotated, text, 'Rotary embedding turns pairs; without this setting it turns all of a head.');
    }
    if (dims.qkNorm || dims.qkvBias) {
      const text = 'is for models without norms or biases of queries and keys';
      wrong(keys.rotated, text, 'Rows of queries and keys change their order, and such vectors do not.');
    }
  }
  if (
    isCount(dims.qHeads, mostOf.qHeads) &&
    isCount(dims.kvHeads, mostOf.kvHeads) &&
    dims.qHeads % dims.kvHeads !== 0
  ) {
    const text = `is ${dims.qHeads}, must be a multiple of ${keys.kvHeads}, ${dims.kvHeads}`;
    wrong(keys.qHeads, text, 'Every key-value head serves the same number of query heads.');
  }
  if (!isBetween(dims.normEps, Number.MIN_VALUE, 0.1)) {
    wrong(keys.normEps, `is ${shown(dims.normEps)}, must be more than 0 and at most 0.1`);
  }
  if (!isBetween(dims.ropeTheta, 1, 1e12)) {
    wrong(keys.ropeTheta, `is ${shown(dims.ropeTheta)}, must be from 1 to 1000000000000`);
  }
  return problems;
}

export const copyAgain = "Compare with the file in the model's own repository.";

export function unsupportedFamily(key: string, value: unknown): Problem {
  return { ...unsupported(key, value, families), hint: otherModel };
}

export function unsupported(key: string, value: unknown, supported: readonly unknown[]): Problem {
  const text = `${key} is ${show(value)}, supported: ${supported.join(', ')}`;
  return { key, text, hint: otherModel, isUnsupported: true };
}

/** All problems as one error. @param problems at least one  @param modelType what the file calls the model */
export function refusal(place: string, problems: readonly Problem[], modelType?: unknown): OnelaunchError {
  const named = typeof modelType === 'string' ? modelType : undefined;
  const errorOf = ({ key: setting, text, hint, isUnsupported }: Problem) =>
    isUnsupported
      ? new ModelNotSupportedError(`${place}: ${text}`, { modelType: named, setting, hint })
      : new OnelaunchError('usage', `${place}: ${text}`, { hint });
  return gather(problems.map(errorOf));
}

export function show(value: unknown): string {
  if (value === undefined) return 'missing';
  const text = typeof value === 'number' ? String(value) : JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
