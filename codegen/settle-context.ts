// What a model is in an engine of so many positions.
import type { ModelDims } from './model/dims.ts';

/** Positions of an engine that is asked for none. */
export const usualContext = ({ maxPositions }: Pick<ModelDims, 'maxPositions'>): number =>
  Math.min(maxPositions, 4096);

/** Dims for a KV cache of `context` positions: those of LongRoPE whose context is the first one have its factors, and no more positions.
 *  transformers chooses by the length of each text, and begins anew where a reply grows past it. */
export function settleContext(dims: ModelDims, context = usualContext(dims)): ModelDims {
  const { ropeScaling: scaling, maxPositions } = dims;
  if (scaling?.type !== 'longrope' || context > scaling.originalPositions) return dims;
  return { ...dims, maxPositions: Math.min(maxPositions, scaling.originalPositions) };
}
