// Which layers of a config.json see a window of positions only, and which are not rotated, as the config classes of transformers read it.
import type { LayerKind, ModelDims } from './dims.ts';
import { copyAgain, type Problem, show, unsupported } from './dims-problems.ts';
import { familyFacts } from './families.ts';
import { oneKind } from './kinds.ts';

/** The keys that say it, with the right types. */
export interface KindKeys {
  readonly use_sliding_window?: boolean | null | undefined;
  readonly sliding_window?: number | null | undefined;
  readonly max_window_layers?: number | null | undefined;
  readonly layer_types?: readonly string[] | null | undefined;
  readonly no_rope_layers?: readonly (number | boolean)[] | null | undefined;
  readonly no_rope_layer_interval?: number | null | undefined;
}

interface Kinds {
  readonly kinds: Pick<ModelDims, 'kinds' | 'pattern'>;
  readonly problems: readonly Problem[];
  readonly notes: readonly string[];
}

/** What a config.json says of every layer. */
interface Said<T> {
  readonly layers: readonly T[];
  readonly problems: readonly Problem[];
  readonly notes?: readonly string[];
}

/** Kinds and pattern of a model's layers. A window that no context outgrows is none, and Llama has none whatever its file says.
 *  Source: Qwen2Config, Qwen3Config, MistralConfig, SmolLM3Config and Phi3Config of transformers 5; LlamaConfig has no such keys. */
export function layerKinds(
  keys: KindKeys,
  { family, layers, maxPositions }: Pick<ModelDims, 'family' | 'layers' | 'maxPositions'>,
): Kinds {
  const { windows, missing } = familyFacts[family];
  if (windows === 'none' || !Number.isInteger(layers) || layers < 1 || layers > mostLayers)
    return { kinds: oneKind, problems: [], notes: [] };
  const rope =
    windows === 'unrotated' ? rotated(keys, layers) : { layers: each(layers, () => true), problems: [] };
  const seen =
    windows === 'all'
      ? allSee(keys, layers, missing.window)
      : someSee(keys, windows, rope.layers, missing.window);
  const [problems, notes] = [[...rope.problems, ...seen.problems], seen.notes ?? []];
  const kinds = each(layers, (layer) => {
    const window = seen.layers[layer]!;
    return kindWith(window !== null && window < maxPositions ? window : null, rope.layers[layer]!);
  });
  const isPlain = kinds.every(({ window, rope }) => window === null && rope);
  if (problems.length > 0 || isPlain) return { kinds: oneKind, problems, notes };
  const names = kinds.map(({ name }) => name);
  const used = kinds.filter(({ name }, layer) => names.indexOf(name) === layer);
  used.sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name));
  return { kinds: { kinds: used, pattern: shortest(names) }, problems, notes };
}

const full = 'full_attention';
const sliding = 'sliding_attention';
const mostLayers = 1024;
const defaultFirstLayer = 28;
const defaultInterval = 4;
const order = ['full', 'window', 'unrotated', 'window_unrotated'];

const each = <T>(layers: number, of: (layer: number) => T): T[] =>
  Array.from({ length: layers }, (_, layer) => of(layer));

function kindWith(window: number | null, rope: boolean): LayerKind {
  const name = order[(window === null ? 0 : 1) + (rope ? 0 : 2)]!;
  return { name, window, rope };
}

/** Which layers are rotated: those that no_rope_layers has a 1 for, else all but every fourth. */
function rotated(
  { no_rope_layers: listed, no_rope_layer_interval }: KindKeys,
  layers: number,
): Said<boolean> {
  const problem = (key: string, text: string) => ({
    layers: each(layers, () => true),
    problems: [{ key, text: `${key} ${text}`, hint: copyAgain }],
  });
  if (listed) {
    if (listed.length < layers)
      return problem(
        'no_rope_layers',
        `has ${listed.length} entries, must have num_hidden_layers, ${layers}`,
      );
    return { layers: each(layers, (layer) => Boolean(listed[layer])), problems: [] };
  }
  const interval = no_rope_layer_interval ?? defaultInterval;
  if (!Number.isInteger(interval) || interval < 1)
    return problem('no_rope_layer_interval', `is ${show(interval)}, must be a whole number of 1 or more`);
  return { layers: each(layers, (layer) => (layer + 1) % interval !== 0), problems: [] };
}

/** The window of every layer where sliding_window is of all. */
function allSee(
  { sliding_window: said, layer_types: types }: KindKeys,
  layers: number,
  missing: number | null,
): Said<number | null> {
  const window = said === undefined ? missing : said;
  const differs = types?.some((type) => (type === sliding) !== (window !== null));
  const notes = differs
    ? [
        'layer_types says of some layers what sliding_window does not: sliding_window counts, as in transformers',
      ]
    : [];
  return { layers: each(layers, () => window), problems: windowProblems(window), notes };
}

/** The window of every layer where some have it: those that layer_types names, else by the family the late ones, or those that are not rotated. */
function someSee(
  keys: KindKeys,
  which: 'late' | 'unrotated',
  rope: readonly boolean[],
  missing: number | null,
): Said<number | null> {
  const layers = rope.length;
  const window = keys.use_sliding_window ? keys.sliding_window : null;
  const seen = window === undefined ? missing : window;
  const first = keys.max_window_layers ?? defaultFirstLayer;
  const implied = each(layers, (layer) => {
    const isWanted = which === 'late' ? layer >= first : !rope[layer];
    return seen !== null && isWanted ? sliding : full;
  });
  const types = keys.layer_types ?? implied;
  const others = which === 'late' ? 'max_window_layers' : 'no_rope_layers';
  const notes =
    keys.use_sliding_window && types.join() !== implied.join()
      ? [
          `layer_types says of other layers than ${others} that they have a window: layer_types counts, as in transformers`,
        ]
      : [];
  return {
    layers: each(layers, (layer) => (types[layer] === sliding ? seen : null)),
    problems: findProblems(types, layers, seen),
    notes,
  };
}

function findProblems(types: readonly string[], layers: number, window: number | null): Problem[] {
  const unknown = types.find((type) => type !== full && type !== sliding);
  if (unknown !== undefined) return [unsupported('layer_types', unknown, [full, sliding])];
  if (types.length !== layers) {
    const text = `layer_types has ${types.length} entries, must have num_hidden_layers, ${layers}`;
    return [{ key: 'layer_types', text, hint: copyAgain }];
  }
  if (!types.includes(sliding)) return [];
  if (window === null) {
    const text = `layer_types has ${sliding}, and no window is set`;
    const hint = 'Set use_sliding_window to true, and sliding_window to the positions that a token sees.';
    return [{ key: 'layer_types', text, hint }];
  }
  return windowProblems(window);
}

function windowProblems(window: number | null): Problem[] {
  if (window === null || (Number.isInteger(window) && window >= 1)) return [];
  const text = `sliding_window is ${show(window)}, must be a whole number of 1 or more`;
  return [{ key: 'sliding_window', text, hint: copyAgain }];
}

/** The shortest beginning that gives all names when it is repeated. */
function shortest(names: readonly string[]): string[] {
  let period = 1;
  while (!names.every((name, layer) => name === names[layer % period])) period++;
  return names.slice(0, period);
}
