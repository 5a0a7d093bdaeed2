// Names that the generated sources use for what the schedule speaks of.
import type { OpName, TensorName } from '../model/graph.ts';

/** Name of the constant that is the floats of a buffer per token. */
export function strideName(buffer: string): string {
  switch (buffer) {
    case 'qkv':
      return 'kQkvRows';
    case 'qn':
    case 'qr':
    case 'att':
      return 'kQDim';
    case 'kn':
    case 'kr':
      return 'kKvDim';
    case 'partial':
      return 'kPartialFloats';
    case 'gate':
    case 'up':
    case 'h':
      return 'kFfn';
    case 'logits':
      return 'kVocab';
    default:
      return 'kHidden';
  }
}

/** Name of a placed tensor's first float in scratch. */
export const scratchName = (tensor: TensorName): string => `k${tensor[0]!.toUpperCase()}${tensor.slice(1)}At`;

/** How each product is called: width of its input, rows interleaved per output row, packed weights, output rows. */
export const matmuls: Partial<
  Record<OpName, { columns: string; parts: number; weight: string; rows: string }>
> = {
  qkv_proj: { columns: 'kHidden', parts: 1, weight: 'qkv', rows: 'kQkvRows' },
  o_proj: { columns: 'kQDim', parts: 1, weight: 'o', rows: 'kHidden' },
  gate_up: { columns: 'kHidden', parts: 2, weight: 'gate_up', rows: 'kFfn' },
  down_proj: { columns: 'kFfn', parts: 1, weight: 'down', rows: 'kHidden' },
  lm_head: { columns: 'kHidden', parts: 1, weight: 'head', rows: 'kVocab' },
};
