// Completes a few stages to a whole plan: every other op is a stage of its own, as in the unfused plan.

import type { OpName } from '../../codegen/model/graph.ts';
import type { Stage } from '../../codegen/plan/plan.ts';
import unfused from '../../configs/plans/unfused.ts';

/** The stages of the unfused plan, with `stages` in the place of theirs and without the ops in `without`. */
export function around(stages: readonly Stage[], without: readonly OpName[] = []): Stage[] {
  const named = new Set(stages.flatMap((stage) => stage.ops));
  const at = unfused.stages.findIndex((stage) => named.has(stage.ops[0]!));
  const kept = (list: readonly Stage[]) =>
    list.filter((stage) => !named.has(stage.ops[0]!) && !without.includes(stage.ops[0]!));
  return [...kept(unfused.stages.slice(0, at)), ...stages, ...kept(unfused.stages.slice(at))];
}
