// A model scaled down for the simulators: the same graph, a few elements of everything.
import type { ModelDims } from '../model/dims.ts';

/** Sizes that a scheme gives everything, but for what sets the model's graph apart. */
type Sizes = Pick<ModelDims, 'hidden' | 'ffn' | 'headDim' | 'vocab' | 'kvHeads'>;

/** Shared memory of the tiny target: never what decides. */
export const roomyBytes = 1e9;

/** Query heads that share a kv head, at most: more would only repeat themselves. */
const mostGroup = 3;

/** Every kind of layers twice, or two layers, so that what one layer leaves for the next is seen; windows that leave positions out. */
export function tinyDims(dims: ModelDims, sizes: Sizes): ModelDims {
  const group = Math.min(mostGroup, dims.qHeads / dims.kvHeads);
  const kinds = dims.kinds.map((kind) => ({
    ...kind,
    window: kind.window === null ? null : Math.min(kind.window, tinyWindow),
  }));
  const layers = Math.min(dims.layers, Math.max(2, dims.pattern.length));
  return { ...dims, ...sizes, layers, kinds, qHeads: sizes.kvHeads * group };
}

/** Positions that a layer with a window sees. */
const tinyWindow = 3;
