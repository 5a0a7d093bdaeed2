// The plan of a model on a target where nobody names one.
import { estimate, makeSchedule } from '../codegen/index.ts';
import type { ModelDims } from '../codegen/model/dims.ts';
import { decoderGraph } from '../codegen/model/graph.ts';
import { isLegal } from '../codegen/plan/check.ts';
import { parsePlan } from '../codegen/plan/parse-plan.ts';
import type { FusionPlan } from '../codegen/plan/plan.ts';
import { hasBulkCopies, hasWarpgroupProducts } from '../codegen/schedule/platform.ts';
import { platformOf, type Target } from '../codegen/schedule/target.ts';
import cooperative from './plans/cooperative.ts';
import prefill, { variants as prefillVariants } from './plans/prefill.ts';
import stream from './plans/stream.ts';
import unfused from './plans/unfused.ts';
import { resolvePlan } from './resolve.ts';

interface ChosenPlan {
  readonly plan: FusionPlan;
  /** Why this one, in a few words; null: it was asked for. */
  readonly why: string | null;
}

/** The stream where a copy engine feeds it; else, of the plans with barriers, the one that is predicted to be faster. */
function defaultPlan(dims: ModelDims, target: Target, promptPlan: FusionPlan | null): ChosenPlan {
  const graph = decoderGraph(dims);
  if (promptPlan && platformOf(target).streams && isLegal(graph, stream, target)) {
    return { plan: stream, why: `${promptPlan.name} reads the weights of a stream` };
  }
  if (hasBulkCopies(target.arch) && isLegal(graph, stream, target)) {
    return { plan: stream, why: `${target.name} has a copy engine that feeds it` };
  }
  const [first, ...others] = [cooperative, unfused].filter((plan) => isLegal(graph, plan, target));
  /** Of a token; where the target's bandwidth is not known, what it waits and does beside, since all plans read the same weights. */
  const micros = (plan: FusionPlan) => {
    const cost = estimate(makeSchedule(dims, plan, target));
    return cost.micros ?? cost.waitMicros + cost.workMicros;
  };
  const best = others.reduce((a, b) => (micros(b) < micros(a) ? b : a), first ?? cooperative);
  const stop = hasBulkCopies(target.arch)
    ? `${dims.name} cannot be streamed`
    : `${target.name} has no copy engine`;
  return { plan: best, why: `${stop}, and of the others this one is predicted to be faster` };
}

/** What takes in prompts beside a stream where nobody names any plan: tiles where they have been measured, for what they can run. */
export function defaultPromptPlan(plan: FusionPlan, dims: ModelDims, target: Target): FusionPlan | null {
  if (plan !== stream || !hasWarpgroupProducts(target.arch)) return null;
  const graph = decoderGraph(dims);
  const apart = prefillVariants.filter(({ name }) => name === 'prefill-heads-apart');
  return [prefill, ...apart].find((one) => isLegal(graph, one, target)) ?? null;
}

/** The plan that is asked for by name, path or value; else the best one for the target. */
export async function choosePlan(
  asked: string | FusionPlan | undefined,
  dims: ModelDims,
  target: Target,
  /** What takes in prompts beside it. */
  promptPlan: FusionPlan | null = null,
): Promise<ChosenPlan> {
  if (asked === undefined) return defaultPlan(dims, target, promptPlan);
  return { plan: typeof asked === 'object' ? parsePlan(asked) : await resolvePlan(asked), why: null };
}
