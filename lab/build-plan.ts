// The library of one plan, for a model and a target that were checked before.
import { build } from '../codegen/build/build.ts';
import { generate } from '../codegen/index.ts';
import type { FusionPlan } from '../codegen/plan/plan.ts';
import type { BuiltKernel } from '../load.ts';
import type { CheckedModel } from '../preflight.ts';

/** Of a model, all that a build takes; without files only random weights can be loaded. */
export type PlanInput = Pick<CheckedModel, 'dims' | 'target'> &
  Partial<Pick<CheckedModel, 'directory' | 'files' | 'promptPlan'>>;

/** Compiles it, or finds it built. @param before refuse to compile */
export async function buildPlan(
  plan: FusionPlan,
  { dims, target, directory = null, files, promptPlan = null }: PlanInput,
  { signal, before = false }: { readonly signal: AbortSignal; readonly before?: boolean },
): Promise<BuiltKernel> {
  const kernel = await generate({ dims, plan, promptPlan, target });
  const built = await build(kernel, { builtBefore: before, signal });
  return {
    ...{ ...built, dims, modelDirectory: directory, target, kernel, planReason: null },
    ...(files && { files }),
  };
}
