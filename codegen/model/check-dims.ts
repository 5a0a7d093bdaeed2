// Dims written as TypeScript data, checked.
import { families, type ModelDims } from './dims.ts';
import {
  dimsKeys,
  findProblems,
  mostOf,
  type Problem,
  refusal,
  show,
  unsupported,
  unsupportedFamily,
} from './dims-problems.ts';
import { findFactorProblems } from './factors.ts';
import { blockNames, cacheFormats, type Dtype, dtypeBytes, isBlocks } from './formats.ts';
import { findScalingProblems } from './rope-scaling.ts';

/** No context is longer. */
const mostWindow = mostOf.maxPositions;
const dtypes = Object.keys(dtypeBytes) as readonly Dtype[];
const formatNames: readonly string[] = [...dtypes, ...blockNames];

/** The same dims, checked: for dims written as TypeScript data.
 *  @throws OnelaunchError of kind usage, as parseDims does. */
export function checkDims(dims: ModelDims): ModelDims {
  const problems = [
    ...findProblems(dims, dimsKeys),
    ...findScalingProblems(dims, dimsKeys),
    ...findFactorProblems(dims),
  ];
  if (!families.includes(dims.family)) problems.unshift(unsupportedFamily('family', dims.family));
  if (!dtypes.includes(dims.dtype)) problems.push(unsupported('dtype', dims.dtype, dtypes));
  for (const [part, format] of Object.entries(dims.weights ?? {})) {
    if (!formatNames.includes(format)) problems.push(unsupported(`weights.${part}`, format, formatNames));
  }
  problems.push(...findMixture(dims));
  if (dims.cache !== undefined && !Object.hasOwn(cacheFormats, dims.cache))
    problems.push(unsupported('cache', dims.cache, Object.keys(cacheFormats)));
  problems.push(...findKindProblems(dims));
  if (problems.length > 0) throw refusal(`dims of ${dims.name}`, problems, dims.family);
  return dims;
}

/** Numbers beside blocks in a layer: a CPU lays the inputs of all its products out alike, and prompts unpack all of them or none. */
function findMixture({ weights }: ModelDims): Problem[] {
  if (weights === undefined) return [];
  const { layers, qkv = layers, down = layers } = weights;
  if (new Set([layers, qkv, down].map(isBlocks)).size === 1) return [];
  const text = `weights has numbers beside blocks in a layer: layers ${layers}, qkv ${qkv}, down ${down}`;
  return [
    { key: 'weights', text, hint: `Give all three as blocks (${blockNames.join(', ')}), or as numbers.` },
  ];
}

/** What is wrong with the kinds of layers, which no config.json names yet. */
function findKindProblems({ kinds, pattern }: ModelDims): Problem[] {
  const hint =
    "A model of equal layers has one kind, { name: 'layer', window: null, rope: true }, and pattern ['layer'].";
  const problems: Problem[] = [];
  const wrong = (key: string, text: string) => problems.push({ key, text: `${key} ${text}`, hint });
  if (!Array.isArray(kinds) || !Array.isArray(pattern)) {
    wrong('kinds', 'and pattern must be lists');
    return problems;
  }
  const names = kinds.map(({ name }) => name);
  for (const [i, { name, window, rope }] of kinds.entries()) {
    if (!/^[a-z][a-z0-9_]*$/.test(name))
      wrong('kinds', `has the name ${show(name)}, must be a lower-case word`);
    if (names.indexOf(name) !== i) wrong('kinds', `has two kinds of the name ${show(name)}`);
    if (window !== null && !(Number.isInteger(window) && window >= 1 && window <= mostWindow))
      wrong(
        'kinds',
        `${name}: window is ${show(window)}, must be null or a whole number from 1 to ${mostWindow}`,
      );
    if (typeof rope !== 'boolean') wrong('kinds', `${name}: rope is ${show(rope)}, must be true or false`);
  }
  if (pattern.length === 0) wrong('pattern', 'is empty, must name the kind of at least one layer');
  for (const name of new Set(pattern)) {
    if (!names.includes(name)) wrong('pattern', `names the kind ${show(name)}, known: ${names.join(', ')}`);
  }
  return problems;
}
