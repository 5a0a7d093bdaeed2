/**
 * The generator from top to bottom: dims -> graph -> plan -> hazards -> syncs -> schedule -> view -> sources -> library.
 * @module onelaunch/codegen
 */
import { invariant } from '../errors.ts';
import { debug } from './build/debug.ts';
import { emitSources } from './emit/emit.ts';
import { estimate, settleLaunches } from './estimate.ts';
import { needArguments, needDims, needPlan, needTarget } from './given.ts';
import type { Kernel } from './kernel.ts';
import type { ModelDims } from './model/dims.ts';
import { decoderGraph } from './model/graph.ts';
import { weightsName } from './model/weights.ts';
import { checkPlan } from './plan/check.ts';
import { PlanError } from './plan/issue.ts';
import type { FusionPlan } from './plan/plan.ts';
import { explainTable } from './schedule/explain.ts';
import type { Target } from './schedule/target.ts';
import { type Schedule, schemeFor } from './schemes/index.ts';
import { checkTogether } from './schemes/together.ts';

export { type f32, pointwise, silu } from '../configs/dsl.ts';
export { type BuildOptions, type Built, build } from './build/build.ts';
export { findGpu, type Gpu } from './build/gpus.ts';
export { outputRoot } from './build/output-root.ts';
export type { BuildProgress } from './build/run-steps.ts';
export { findCxx, findNvcc, type Tool } from './build/tools.ts';
export type { Lowered } from './emit/emit.ts';
export { choiceOf, estimatePrompt, type PromptChoice, type PromptEstimate } from './estimate.ts';
export type { Kernel } from './kernel.ts';
export type { Factors, LayerKind, ModelDims, RopeScaling } from './model/dims.ts';
export type { BlockFormat, Dtype, Format, MatrixFormats } from './model/formats.ts';
export type { OpName, OpPart, PointwiseOpName, PointwiseSpec } from './model/ops.ts';
export type { Site } from './plan/call-site.ts';
export { parsePlan } from './plan/parse-plan.ts';
export {
  type BarriersScheme,
  barriers,
  byContext,
  dealt,
  type FusionPlan,
  fit,
  into,
  type OpFunctions,
  type Over,
  own,
  type PlanEdit,
  type PlanOptions,
  type PointwiseFunction,
  plan,
  type Scheme,
  type SplitStep,
  type Stage,
  type StageOptions,
  type StreamScheme,
  stage,
  stream,
  type TilesScheme,
  type Tuning,
  tiles,
} from './plan/plan.ts';
export {
  type Launches,
  launchesOf,
  leastWithLaunch,
  type PromptPass,
  passesOf,
  passesText,
} from './prompts.ts';
export type { Cost, StageCost, StageSync } from './schedule/cost.ts';
export type { Target } from './schedule/target.ts';
export type { TimePart, Work } from './schedule/terms.ts';
export { optionsWithoutEffect } from './schemes/barriers/tuning.ts';
export type { Schedule } from './schemes/index.ts';
export { estimate, explainTable };

/**
 * The sources for one model, plan and target. Pure but for reading templates.
 * @throws PlanError with every issue of an illegal plan; OnelaunchError usage for two that do not go together, and for what is no model, plan or target.
 */
export async function generate(input: {
  dims: ModelDims;
  plan: FusionPlan;
  /** A plan with tiles, for prompts; without one they go through passes of the other. */
  promptPlan?: FusionPlan | null;
  target: Target;
}): Promise<Kernel> {
  needArguments('generate', input, '{ dims, plan, target }');
  const { dims, plan, promptPlan = null, target } = input;
  needDims(dims);
  needPlan(plan);
  if (promptPlan !== null) needPlan(promptPlan, 'promptPlan');
  needTarget(target);
  checkTogether(plan, promptPlan, target);
  const schedule = makeSchedule(dims, plan, target);
  const prompts = promptPlan && {
    plan: promptPlan,
    schedule: settleLaunches(schedule, makeSchedule(dims, promptPlan, target)),
  };
  const { files, hash } = await emitSources({ schedule, plan }, prompts);
  debug(2, () => explainTable(schedule, estimate(schedule)));
  debug(4, () => Object.entries(files).find(([name]) => name.startsWith('kernel'))![1]);
  const model = [
    dims.name,
    ...(dims.weights ? [weightsName(dims.weights)] : []),
    ...(dims.cache ? [`cache-${dims.cache}`] : []),
  ];
  const name = [...model, target.name, plan.name, ...(prompts ? [prompts.plan.name] : [])].join('-');
  return { schedule, plan, prompts, sources: files, hash, name };
}

/** The schedule of a legal plan, checked. @throws PlanError; OnelaunchError usage for what is no model, plan or target */
export function makeSchedule(dims: ModelDims, plan: FusionPlan, target: Target): Schedule {
  needDims(dims);
  needPlan(plan);
  needTarget(target);
  const graph = decoderGraph(dims);
  const issues = checkPlan(graph, plan, target);
  if (issues.length > 0) throw new PlanError(issues, plan.file);
  const scheme = schemeFor(plan, target);
  const schedule = scheme.lower(graph, plan, target);
  debug(3, () => [...schedule.hazards, ...schedule.syncs].map((item) => JSON.stringify(item)).join('\n'));
  const missed = scheme.uncovered(schedule);
  invariant(missed.length === 0, `plan ${plan.name}: ${missed[0]?.why}`);
  return schedule;
}
