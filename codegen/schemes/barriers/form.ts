// The stages of a plan for a stream as barriers can run them: what a stream does row by row is done where whole heads are.
import type { OpName } from '../../model/graph.ts';
import { withStages } from '../../plan/edits.ts';
import type { FusionPlan, Stage } from '../../plan/plan.ts';

const rowwise: readonly OpName[] = ['qk_norm', 'rope'];

/** Head norm and rotation from the stage of their product into that of attention, which makes them for itself. Other plans stay as they are. */
export function atBarriers(plan: FusionPlan): FusionPlan {
  if (plan.scheme.kind === 'barriers') return plan;
  const product = plan.stages.find((stage) => stage.ops.includes('qkv_proj'));
  const moved = rowwise.filter((op) => product?.ops.includes(op));
  if (moved.length === 0) return plan;
  const stages = plan.stages.map((stage): Stage => {
    if (stage === product) return { ...stage, ops: stage.ops.filter((op) => !moved.includes(op)) };
    if (!stage.ops.includes('kv_append')) return stage;
    return { ...stage, ops: [...moved, ...stage.ops], recompute: [...moved, ...stage.recompute] };
  });
  return withStages(plan, stages);
}
