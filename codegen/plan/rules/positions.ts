// What a target cannot do with the positions of a model, whatever the plan.
import { largerBy, pairSizes } from '../../model/rope.ts';
import { platformOf } from '../../schedule/target.ts';
import { atPlan, type Context, type Finding } from '../finding.ts';

/** Rotated pairs larger than those that are not rotated: no scale of scores says that. */
export function largerPairs({ graph, plan, target }: Context): Finding[] {
  const { dims } = graph;
  if (pairSizes(dims) === null || platformOf(target).pairSizes) return [];
  const size = largerBy(dims.ropeScaling).toPrecision(4);
  const why = `${dims.name} rotates ${dims.rotated} of ${dims.headDim} numbers of a head and makes them ${size} times as large, and tables of ${target.name} have one size for all: use --target cpu`;
  return [{ rule: 'larger-pairs', ...atPlan(plan, 'name', plan.name), why, edits: [] }];
}
