// The library of one plan, for a model and a target that were checked before.
import type { FusionPlan } from '../codegen/plan/plan.ts';
import { type BuildInput, type BuiltKernel, buildChecked } from '../load.ts';

/** Of a model, all that a build takes beside the plan. */
type PlanInput = Pick<BuildInput, 'dims' | 'target' | 'directory' | 'files' | 'promptPlan'>;

/** Compiles it, or finds it built. @param before refuse to compile */
export const buildPlan = (
  plan: FusionPlan,
  { dims, target, directory, files, promptPlan }: PlanInput,
  { signal, before = false }: { readonly signal: AbortSignal; readonly before?: boolean },
): Promise<BuiltKernel> =>
  buildChecked(
    { dims, plan, target, directory, files, ...(promptPlan && { promptPlan }) },
    { builtBefore: before, signal },
  );
