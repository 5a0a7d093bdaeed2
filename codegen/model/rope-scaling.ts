// Settings of rotary frequencies for a longer context: read from a config.json, and checked.
import type { ModelDims, RopeScaling } from './dims.ts';
import { type Keys, mostOf, type Problem, show, shownIn } from './dims-problems.ts';
import { largerBy, rotatedOf } from './rope.ts';

type Type = RopeScaling['type'];
type List = 'shortFactors' | 'longFactors';
type Name<Of extends Type> = Of extends Type
  ? Exclude<keyof Extract<RopeScaling, { type: Of }>, 'type' | List>
  : never;

/** The settings of each type, and an example. */
const types: { readonly [Of in Type]: { readonly names: readonly Name<Of>[]; readonly hint: string } } = {
  linear: { names: ['factor'], hint: 'All frequencies are divided by the factor.' },
  llama3: {
    names: ['factor', 'lowFreqFactor', 'highFreqFactor', 'originalPositions'],
    hint: 'Llama 3.2 has factor 32, low 1, high 4 and 8192 positions before scaling.',
  },
  yarn: {
    names: ['factor', 'originalPositions', 'betaFast', 'betaSlow', 'attention'],
    hint: 'Qwen3 has factor 4 and 32768 positions before scaling.',
  },
  longrope: {
    names: ['originalPositions', 'attention'],
    hint: 'Phi-3.5-mini has 48 short and 48 long factors, one for each rotated pair of a head, and 4096 positions before scaling.',
  },
};
const lists: readonly List[] = ['shortFactors', 'longFactors'];
export const scalingTypes = Object.keys(types) as readonly Type[];
export const isScalingType = (type: unknown): type is Type => scalingTypes.some((one) => one === type);

/** What a config.json says of a setting; undefined where it says nothing. */
export type Settings = Readonly<
  Partial<Record<Name<Type> | 'mscale' | 'mscaleAllDim' | 'maxPositions', number | undefined>> &
    Partial<Record<List, readonly number[] | undefined>>
>;

/** Settings with NaN for what is missing; null for a type that is refused. Source: _compute_yarn_parameters and _compute_longrope_parameters
 *  of transformers 5 for what is left out. */
export function scalingOf(type: string, settings: Settings): RopeScaling | null {
  const { factor = Number.NaN, originalPositions = Number.NaN } = settings;
  switch (type) {
    case 'linear':
      return { type, factor };
    case 'llama3': {
      const { lowFreqFactor = Number.NaN, highFreqFactor = Number.NaN } = settings;
      return { type, factor, lowFreqFactor, highFreqFactor, originalPositions };
    }
    case 'yarn': {
      // Zero counts as left out.
      const [betaFast, betaSlow] = [settings.betaFast || 32, settings.betaSlow || 1];
      return {
        type,
        factor,
        originalPositions,
        betaFast,
        betaSlow,
        attention: attentionOf(factor, settings),
      };
    }
    case 'longrope': {
      const { shortFactors = [], longFactors = [], maxPositions = originalPositions } = settings;
      const longer = maxPositions / originalPositions;
      const grown = longer > 1 ? Math.sqrt(1 + Math.log(longer) / Math.log(originalPositions)) : 1;
      return { type, shortFactors, longFactors, originalPositions, attention: settings.attention ?? grown };
    }
    default:
      return null;
  }
}

function attentionOf(factor: number, { attention, mscale, mscaleAllDim }: Settings): number {
  const grown = (by: number) => (factor > 1 ? 0.1 * by * Math.log(factor) + 1 : 1);
  return attention ?? (mscale && mscaleAllDim ? grown(mscale) / grown(mscaleAllDim) : grown(1));
}

/** What is wrong with the scaling of dims. */
export function findScalingProblems(dims: ModelDims, keys: Keys): Problem[] {
  const { ropeScaling: scaling, kinds } = dims;
  const pairs = rotatedOf(dims) / 2;
  if (scaling === null) return [];
  const problems: Problem[] = [];
  const shown = shownIn(keys);
  if (!isScalingType(scaling.type)) {
    const text = `ropeScaling is of the type ${show((scaling as RopeScaling).type)}, supported: ${scalingTypes.join(', ')}`;
    return [{ key: 'ropeScaling', text, hint: 'A model without scaled positions has null.' }];
  }
  const { names, hint } = types[scaling.type];
  const wrong = (name: keyof Keys, text: string) =>
    problems.push({ key: keys[name], text: `${keys[name]} ${text}`, hint });
  for (const name of names) {
    const value = (scaling as Readonly<Record<string, unknown>>)[name];
    const [least, most] = bounds[name] ?? usualBounds;
    if (!(typeof value === 'number' && value >= least && value <= most))
      wrong(name, `of ${scaling.type} rope scaling is ${shown(value)}, must be from ${least} to ${most}`);
  }
  for (const name of scaling.type === 'longrope' ? lists : []) {
    const factors: unknown = (scaling as Readonly<Record<string, unknown>>)[name];
    const [least, most] = usualBounds;
    const isFactor = (value: unknown) => typeof value === 'number' && value >= least && value <= most;
    if (!Array.isArray(factors)) wrong(name, `of longrope rope scaling is ${shown(factors)}, must be a list`);
    else if (factors.length !== pairs && Number.isInteger(pairs))
      wrong(name, `of longrope rope scaling has ${factors.length} entries, must have ${pairs}`);
    else if (!factors.every(isFactor))
      wrong(
        name,
        `of longrope rope scaling has ${shown(factors.find((one) => !isFactor(one)))}, must have numbers from ${least} to ${most}`,
      );
  }
  if (scaling.type === 'llama3' && scaling.lowFreqFactor >= scaling.highFreqFactor)
    wrong(
      'lowFreqFactor',
      `is ${scaling.lowFreqFactor}, must be less than ${keys.highFreqFactor}, ${scaling.highFreqFactor}`,
    );
  if (scaling.type === 'yarn' && scaling.betaSlow >= scaling.betaFast)
    wrong('betaSlow', `is ${scaling.betaSlow}, must be less than ${keys.betaFast}, ${scaling.betaFast}`);
  // Kinds that are no list are told elsewhere.
  const isUnrotated = Array.isArray(kinds) && kinds.some(({ rope }) => !rope);
  if (largerBy(scaling) !== 1 && isUnrotated)
    wrong('attention', `is ${largerBy(scaling)}, and some layers are not rotated, which have no such factor`);
  return problems;
}

const usualBounds = [1e-3, 1e6] as const;
const bounds: Readonly<Record<string, readonly [least: number, most: number] | undefined>> = {
  factor: [1, 1e6],
  originalPositions: [1, mostOf.maxPositions],
};
