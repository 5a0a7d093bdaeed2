// Which layers of a config.json see a window of positions only, as the config classes of transformers read it.
import type { LayerKind, ModelDims } from './dims.ts';
import { copyAgain, type Problem, show, unsupported } from './dims-problems.ts';
import { oneKind } from './kinds.ts';

/** The keys that say it, with the right types. */
export interface WindowKeys {
  readonly use_sliding_window?: boolean | null | undefined;
  readonly sliding_window?: number | null | undefined;
  readonly max_window_layers?: number | null | undefined;
  readonly layer_types?: readonly string[] | null | undefined;
}

interface Windows {
  readonly kinds: Pick<ModelDims, 'kinds' | 'pattern'>;
  readonly problems: readonly Problem[];
  readonly notes: readonly string[];
}

/** Kinds and pattern of a model's layers. A window that no context outgrows is none, and Llama has none whatever its file says.
 *  Source: Qwen2Config and Qwen3Config of transformers 5; LlamaConfig has no such keys. */
export function layerWindows(
  keys: WindowKeys,
  { family, layers, maxPositions }: Pick<ModelDims, 'family' | 'layers' | 'maxPositions'>,
): Windows {
  const plain = { kinds: oneKind, problems: [], notes: [] };
  if (family === 'llama' || !Number.isInteger(layers) || layers < 1 || layers > mostLayers) return plain;
  const window = keys.use_sliding_window ? keys.sliding_window : null;
  const seen = window === undefined ? defaultWindow : window;
  const first = keys.max_window_layers ?? defaultFirstLayer;
  const implied = Array.from({ length: layers }, (_, layer) =>
    seen !== null && layer >= first ? sliding : full,
  );
  const types = keys.layer_types ?? implied;
  const problems = findProblems(types, layers, seen);
  const isPlain = !types.includes(sliding) || (seen !== null && seen >= maxPositions);
  const notes =
    keys.use_sliding_window && types.join() !== implied.join()
      ? [
          'layer_types says of other layers than max_window_layers that they have a window: layer_types counts, as in transformers',
        ]
      : [];
  if (problems.length > 0 || isPlain) return { ...plain, problems, notes };
  const kinds: LayerKind[] = [
    { name: 'full', window: null, rope: true },
    { name: 'window', window: seen, rope: true },
  ];
  const names = types.map((type): string => (type === sliding ? 'window' : 'full'));
  const used = kinds.filter(({ name }) => names.includes(name));
  return { kinds: { kinds: used, pattern: shortest(names) }, problems, notes };
}

const full = 'full_attention';
const sliding = 'sliding_attention';
const mostLayers = 1024;
const defaultWindow = 4096;
const defaultFirstLayer = 28;

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
  if (Number.isInteger(window) && window >= 1) return [];
  const text = `sliding_window is ${show(window)}, must be a whole number of 1 or more`;
  return [{ key: 'sliding_window', text, hint: copyAgain }];
}

/** The shortest beginning that gives all names when it is repeated. */
function shortest(names: readonly string[]): string[] {
  let period = 1;
  while (!names.every((name, layer) => name === names[layer % period])) period++;
  return names.slice(0, period);
}
