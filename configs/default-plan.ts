// The plans of a model on a target where nobody names them.
import { estimate, makeSchedule } from '../codegen/index.ts';
import type { ModelDims } from '../codegen/model/dims.ts';
import { decoderGraph } from '../codegen/model/graph.ts';
import { isLegal } from '../codegen/plan/check.ts';
import type { FusionPlan } from '../codegen/plan/plan.ts';
import { hasBulkCopies, hasWarpgroupProducts } from '../codegen/schedule/platform.ts';
import { platformOf, type Target } from '../codegen/schedule/target.ts';
import cooperative from './plans/cooperative.ts';
import prefill, { variants as prefillVariants } from './plans/prefill.ts';
import stream from './plans/stream.ts';
import unfused from './plans/unfused.ts';

interface ChosenPlans {
  readonly plan: FusionPlan;
  /** Why this one, in a few words. */
  readonly planReason: string;
  /** What takes in prompts beside it; null: its passes do. */
  readonly promptPlan: FusionPlan | null;
}

/** The stream where a copy engine feeds it, or where nothing else fits; else, of the plans with barriers, the one that is predicted to be faster. */
function defaultPlan(dims: ModelDims, target: Target, promptPlan: FusionPlan | null) {
  const graph = decoderGraph(dims);
  if (promptPlan && platformOf(target).streams && isLegal(graph, stream, target)) {
    return { plan: stream, planReason: `${promptPlan.name} reads the weights of a stream` };
  }
  if (hasBulkCopies(target.arch) && isLegal(graph, stream, target)) {
    return { plan: stream, planReason: `${target.name} has a copy engine that feeds it` };
  }
  if (dims.weights && takesBlocksInStreams(target)) {
    return { plan: stream, planReason: `it has the kernels of ${target.name} for ${dims.weights.layers}` };
  }
  const [first, ...others] = [cooperative, unfused].filter((plan) => isLegal(graph, plan, target));
  if (!first && isLegal(graph, stream, target))
    return { plan: stream, planReason: `no plan with barriers fits ${dims.name} on ${target.name}` };
  /** Of a token [us]; where the target's bandwidth is not known, what it waits and does beside, since all plans read the same weights. */
  const cost = (plan: FusionPlan) => {
    const { micros, waitMicros, workMicros } = estimate(makeSchedule(dims, plan, target));
    return micros ?? waitMicros + workMicros;
  };
  const best = others.reduce((a, b) => (cost(b) < cost(a) ? b : a), first ?? cooperative);
  const stop = hasBulkCopies(target.arch)
    ? `${dims.name} cannot be streamed`
    : `${target.name} has no copy engine`;
  const why =
    target.bandwidth === null
      ? 'this one is predicted to wait and work less'
      : 'this one is predicted to be faster';
  const which = others.length > 0 ? why : first ? 'only this one fits' : 'none fits';
  return { plan: best, planReason: `${stop}, and of the others ${which}` };
}

/** What takes in prompts beside a stream: tiles where they have been measured, for what they can run. */
function defaultPromptPlan(plan: FusionPlan, dims: ModelDims, target: Target): FusionPlan | null {
  if (plan !== stream || !hasWarpgroupProducts(target.arch)) return null;
  const graph = decoderGraph(dims);
  const apart = prefillVariants.filter(({ name }) => name === 'prefill-heads-apart');
  return [prefill, ...apart].find((one) => isLegal(graph, one, target)) ?? null;
}

/** Matrices in blocks are for a stream, and for tiles beside it. */
const takesBlocksInStreams = (target: Target): boolean =>
  platformOf(target).streams && !platformOf(target).blockFormats;

/** Whether kernels multiply the matrices of a model in the formats that they have, in the plans that are asked for or, where none is, the default. */
export function canRunFormats(
  dims: ModelDims,
  {
    plan,
    promptPlan,
    target,
  }: {
    readonly plan?: FusionPlan | undefined;
    readonly promptPlan?: FusionPlan | undefined;
    readonly target: Target;
  },
): boolean {
  if (!takesBlocksInStreams(target)) return true;
  const graph = decoderGraph(dims);
  return isLegal(graph, plan ?? stream, target) && (!promptPlan || isLegal(graph, promptPlan, target));
}

/** The best plans for a model on a target. @param promptPlan the one that is asked for */
export function choosePlans(dims: ModelDims, target: Target, promptPlan: FusionPlan | null): ChosenPlans {
  const chosen = defaultPlan(dims, target, promptPlan);
  return { ...chosen, promptPlan: promptPlan ?? defaultPromptPlan(chosen.plan, dims, target) };
}
