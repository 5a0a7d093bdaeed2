// A target from what a calibration measured: figures of the probe as they are, the terms of stages fitted to timed tokens.
import { estimate, estimatePrompt, settleLaunches } from '../../codegen/estimate.ts';
import type { FusionPlan } from '../../codegen/index.ts';
import type { WeightName } from '../../codegen/model/formats.ts';
import { decoderGraph } from '../../codegen/model/graph.ts';
import { weightBytesOf } from '../../codegen/model/packing.ts';
import { bandwidthOf, type Target } from '../../codegen/schedule/target.ts';
import { costTermNames, type TermValues } from '../../codegen/schedule/terms.ts';
import { type Schedule, schemeFor } from '../../codegen/schemes/index.ts';
import { settleWeights } from '../../codegen/settle-weights.ts';
import stream from '../../configs/plans/stream.ts';
import { resolveModel } from '../../configs/resolve.ts';
import { invariant, OnelaunchError } from '../../errors.ts';
import type { Spread } from '../measure.ts';
import { errorOf, fitTerms, type TimedToken } from './fit.ts';
import { spreadText } from './noise.ts';
import { calibrationPlans, calibrationPrompts } from './plans.ts';
import { cacheOf, figureOf } from './probe.ts';
import type { CalibrationRecord, ProbeFigure, TimedPoint, TimedPrompt } from './record.ts';

/** A timed point, and how far the prediction by the new terms is off: 0.1 is a tenth too long. */
export interface FittedPoint extends TimedPoint {
  readonly error: number;
}

/** The target with what a probe says of it. */
export const probedTarget = (from: Target, figures: readonly ProbeFigure[]): Target => ({
  ...from,
  bandwidth: figureOf(figures, 'bandwidth'),
  bandwidthFrom: 'measured',
  ...cacheOf(figures),
});

/** The same of a prompt. */
export interface FittedPrompt extends TimedPrompt {
  readonly error: number;
}

export interface Refitted {
  readonly target: Target;
  readonly points: FittedPoint[];
  readonly prompts: FittedPrompt[];
}

/** @param from what is known without a measurement: name, architecture, sizes
 *  @throws OnelaunchError of kind usage for a record of another target */
export function refit(from: Target, record: CalibrationRecord): Refitted {
  const { figures, points, pollCycles, pollCyclesFrom, date, device, clocks } = record;
  refuseOther(from, record);
  const probed = probedTarget(from, figures);
  const delayed = pollCycles ? { ...probed, pollCycles } : probed;
  const tokens = points.map(tokenReader(record, delayed));
  const known = knownTerms(figures);
  const schemes = [...new Set(tokens.map(({ scheme }) => scheme))];
  const fitted = schemes.map((name) =>
    fitTerms(
      tokens.filter(({ scheme }) => scheme === name),
      known,
    ),
  );
  const ofReplies: TermValues = Object.assign({ ...known }, ...fitted);
  const prompts = record.prompts.map(promptReader({ ...delayed, terms: ofReplies }));
  const terms = prompts.length > 0 ? fitTerms(prompts, ofReplies) : ofReplies;
  const modelsOf = (timed: readonly { readonly model: string }[]) =>
    [...new Set(timed.map(({ model }) => model))].join(', ');
  const target: Target = {
    ...delayed,
    terms,
    origin: {
      '*': ['gen calibrate', date, device, ...(clocks ? [clocks] : [])].join(', '),
      ...Object.fromEntries(
        ['bandwidth', ...Object.keys(known)].map((term) => [term, rangeOf(figures, term)]),
      ),
      terms: `fitted to ${points.length} timed tokens of ${modelsOf(points)}${spreadOfAll(points.map((one) => one.tokensPerSecond))}`,
      ...(prompts.length > 0 && {
        tiled: `this and the other terms of prompts fitted to ${prompts.length} timed prompts of ${modelsOf(record.prompts)}${spreadOfAll(record.prompts.map((one) => one.millis))}`,
      }),
      ...(pollCycles &&
        points[0] && { pollCycles: pollCyclesFrom ?? `coordinate descent on ${points[0].model}` }),
    },
  };
  return {
    target,
    points: points.map((point, i) => ({ ...point, error: errorOf(tokens[i]!, terms) })),
    prompts: record.prompts.map((prompt, i) => ({ ...prompt, error: errorOf(prompts[i]!, terms) })),
  };
}

const spreadOfAll = (figures: readonly Spread[]): string =>
  figures.length === 0 ? '' : `; ${spreadText(figures)}`;

function refuseOther(from: Target, { arch = from.arch, device, points, prompts }: CalibrationRecord): void {
  const plans = [...calibrationPlans(from, 0), ...calibrationPrompts(from, 0).map(({ plan }) => plan)];
  const known = new Set(plans.map(({ name }) => name));
  const unknown = [...points, ...prompts].find(({ plan }) => !known.has(plan));
  if (arch === from.arch && unknown === undefined) return;
  const why =
    arch === from.arch
      ? `times ${unknown!.plan}, a plan that is not timed there`
      : `is of ${arch || 'a CPU'}`;
  throw new OnelaunchError('usage', `a calibration of ${device} makes no target ${from.name}: it ${why}`, {
    hint: 'give the target that was measured: --target NAME',
  });
}

/** Terms that the probe measures. */
const knownTerms = (figures: readonly ProbeFigure[]): TermValues =>
  Object.fromEntries(
    costTermNames
      .filter((term) => figures.some((figure) => figure.term === term))
      .map((term) => [term, figureOf(figures, term)]),
  );

function rangeOf(figures: readonly ProbeFigure[], term: string): string {
  const { least, most } = figures.findLast((one) => one.term === term)!;
  return `probe: ${least} to ${most}`;
}

/** Schedules of these plans by model and name, each made once. They were checked when they were timed. */
function schedulesOf(plans: readonly FusionPlan[], target: Target) {
  const schedules = new Map<string, Schedule>();
  return (model: string, name: string, weights?: WeightName): Schedule => {
    const plan = plans.find((one) => one.name === name);
    invariant(plan, `${name} is a plan of calibrations`);
    const key = `${model} ${weights} ${name}`;
    const made =
      schedules.get(key) ??
      schemeFor(plan, target).lower(
        decoderGraph(settleWeights(resolveModel(model).dims, weights)),
        plan,
        target,
      );
    schedules.set(key, made);
    return made;
  };
}

/** What an average token of a timed reply is made of. */
function tokenReader({ tokens }: CalibrationRecord, target: Target) {
  const scheduleOf = schedulesOf(calibrationPlans(target, 0), target);
  return ({
    model,
    weights,
    plan,
    position,
    tokensPerSecond,
  }: TimedPoint): TimedToken & { readonly scheme: string } => {
    const schedule = scheduleOf(model, plan, weights);
    const { parts, bytes } = estimate(schedule, position + Math.floor(tokens / 2));
    return {
      ...{ parts, scheme: schedule.scheme, micros: 1e6 / tokensPerSecond.median },
      bandwidth: bandwidthOf(target, bytes.weights)!,
    };
  };
}

/** What a timed prompt is made of. */
function promptReader(target: Target) {
  const plans = calibrationPrompts(target, 0).map(({ plan }) => plan);
  const scheduleOf = schedulesOf([stream, ...plans], target);
  return ({ model, plan: name, tokens, millis }: TimedPrompt): TimedToken => {
    const schedule = scheduleOf(model, stream.name);
    // Their plans say themselves how short a launch may be, so that nothing is searched here.
    const launches = settleLaunches(schedule, scheduleOf(model, name));
    const plan = plans.find((one) => one.name === name)!;
    return {
      parts: estimatePrompt(tokens, { schedule, prompts: { plan, schedule: launches } }).parts,
      bandwidth: bandwidthOf(target, weightBytesOf(schedule.dims))!,
      micros: 1000 * millis.median,
    };
  };
}
