// Sizes of the products of a decoder as the independent checks know them: not taken from the table of ops, which they check.
import type { ModelDims } from '../model/dims.ts';
import type { OpName } from '../model/graph.ts';

/** Columns of the input of a matmul. */
export function columnsOf(op: OpName, dims: ModelDims): number {
  switch (op) {
    case 'o_proj':
      return dims.qHeads * dims.headDim;
    case 'down_proj':
      return dims.ffn;
    default:
      return dims.hidden;
  }
}

/** Rows that a stage over rows deals. A row of gate_up is a pair: gate and up. */
export function rowsOf(op: OpName, dims: ModelDims): number {
  switch (op) {
    case 'qkv_proj':
      return (dims.qHeads + 2 * dims.kvHeads) * dims.headDim;
    case 'gate_up':
    case 'swiglu':
      return dims.ffn;
    case 'lm_head':
      return dims.vocab;
    default:
      return dims.hidden;
  }
}
