// Names that the generated sources use for what the schedule speaks of.
import type { TensorName } from '../model/graph.ts';
import { sizeOf, sizes } from '../model/ops.ts';

/** Name of the constant that is the floats of a buffer per token. */
export function strideName(buffer: string): string {
  if (buffer === 'qkv') return sizes.qkvRows.constant;
  if (buffer === 'partial') return 'kPartialFloats';
  return sizes[sizeOf(buffer as TensorName) ?? 'hidden'].constant;
}

/** Name of a placed tensor's first float in scratch. */
export const scratchName = (tensor: TensorName): string => `k${tensor[0]!.toUpperCase()}${tensor.slice(1)}At`;
