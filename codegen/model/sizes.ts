// Sizes of the products of a decoder.
import type { ModelDims } from './dims.ts';
import type { OpName } from './graph.ts';

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

/** Parts of the positions that blocks work on: as many as there are blocks a kv head, no more than 16, since every reader of the parts merges them. */
export const partsFor = ({ kvHeads }: ModelDims, blocks: number): number =>
  Math.max(1, Math.min(16, Math.floor(blocks / kvHeads)));

/** Rows of a product's matrix. */
export const outputRowsOf = (op: OpName, dims: ModelDims): number =>
  rowsOf(op, dims) * (op === 'gate_up' ? 2 : 1);
