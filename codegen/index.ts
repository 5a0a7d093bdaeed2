// The generator from top to bottom: dims -> graph -> plan -> hazards -> syncs -> schedule -> view -> sources -> library.
import { invariant } from '../errors.ts';
import { checkPlan } from './check.ts';
import { debug } from './debug.ts';
import type { ModelDims } from './dims.ts';
import { emitSources } from './emit.ts';
import { estimate } from './estimate.ts';
import { explainTable } from './explain.ts';
import { decoderGraph } from './graph.ts';
import { PlanError } from './issue.ts';
import { libraryScratch } from './library-scratch.ts';
import type { FusionPlan } from './plan.ts';
import { assignWork, type Schedule } from './schedule.ts';
import type { Target } from './target.ts';
import { uncovered } from './uncovered.ts';

export { type Built, build } from './build.ts';
export type { ModelDims } from './dims.ts';
export type { Cost } from './estimate.ts';
export { outputRoot } from './output-root.ts';
export { parsePlan } from './parse-plan.ts';
export { direct, type FusionPlan, plan, stage, stream } from './plan.ts';
export { modelNames, planNames, resolveModel, resolvePlan, resolveTarget, targetNames } from './resolve.ts';
export type { Schedule } from './schedule.ts';
export type { Target } from './target.ts';
export { findCxx, findGpu, findNvcc } from './tools.ts';
export { estimate, explainTable };

/** One specialised library, not yet compiled. */
export interface Kernel {
  readonly schedule: Schedule;
  /** File name -> text. */
  readonly sources: Readonly<Record<string, string>>;
  readonly hash: string;
  /** <model>-<target>-<plan> */
  readonly name: string;
}

/**
 * The sources for one model, plan and target. Pure but for reading templates.
 * @throws PlanError with every issue of an illegal plan.
 */
export async function generate(input: {
  dims: ModelDims;
  plan: FusionPlan;
  target: Target;
}): Promise<Kernel> {
  const { dims, plan, target } = input;
  const schedule = makeSchedule(dims, plan, target);
  const { files, hash } = await emitSources(schedule);
  debug(2, () => explainTable(schedule, estimate(schedule)));
  debug(4, () => Object.entries(files).find(([name]) => name.startsWith('kernel'))![1]);
  return { schedule, sources: files, hash, name: `${dims.name}-${target.name}-${plan.name}` };
}

/** The schedule of a legal plan, checked. @throws PlanError */
export function makeSchedule(dims: ModelDims, plan: FusionPlan, target: Target): Schedule {
  const graph = decoderGraph(dims);
  const issues = checkPlan(graph, plan, target);
  if (issues.length > 0) throw new PlanError(issues);
  const schedule = assignWork(graph, plan, target, libraryScratch(target));
  debug(3, () => [...schedule.hazards, ...schedule.syncs].map((item) => JSON.stringify(item)).join('\n'));
  const missed = uncovered(schedule);
  invariant(missed.length === 0, `plan ${plan.name}: no sync orders ${JSON.stringify(missed[0])}`);
  return schedule;
}
