// What the stages of all schemes have in common, from the plan.
import type { ModelDims } from '../model/dims.ts';
import { formatBytes } from '../model/formats.ts';
import type { Graph, OpName } from '../model/graph.ts';
import { columnsOf, isProduct, matrixRowsOf, productOf, rowsOf } from '../model/ops.ts';
import { formatOf } from '../model/weights.ts';
import type { Over, Stage } from '../plan/plan.ts';
import type { ScheduledStage } from './schedule.ts';

/** A stage of a plan, as schedules have it. @param splits of the positions @param bytesOf the matrix of a product, as it is read */
export function scheduledStage(
  { dims, ops }: Graph,
  { name, over, split, ops: names, recompute }: Stage,
  { splits, bytesOf = storedBytes }: { splits: number; bytesOf?: (op: OpName, dims: ModelDims) => number },
): ScheduledStage {
  const product = names.find(isProduct);
  const isSplit = split === 'positions';
  const heads = (over === 'q_heads' ? dims.qHeads : dims.kvHeads) * (isSplit ? splits : 1);
  return {
    name,
    part: ops.find((op) => op.name === names[0])!.part,
    over,
    split: isSplit,
    units: unitsOf(over, rowsOf(product ?? names[0]!, dims), heads),
    weightBytes: product ? bytesOf(product, dims) : 0,
    ops: names,
    recompute,
  };
}

const storedBytes = (op: OpName, dims: ModelDims): number =>
  formatBytes(formatOf(dims, productOf(op).weight), matrixRowsOf(op, dims) * columnsOf(op, dims));

function unitsOf(over: Over, rows: number, heads: number): number {
  switch (over) {
    case 'rows':
      return rows;
    case 'q_heads':
    case 'kv_heads':
      return heads;
    case 'tokens':
      return 0;
    case 'once':
      return 1;
    default:
      return over satisfies never;
  }
}
