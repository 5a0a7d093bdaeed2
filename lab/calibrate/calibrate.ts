// A target's figures, measured: what a probe says of the machine, then what tokens of many kernels say of the terms of their cost.
import { availableParallelism } from 'node:os';
import type { ModelDims } from '../../codegen/model/dims.ts';
import type { WeightName } from '../../codegen/model/formats.ts';
import { platformOf, type Target } from '../../codegen/schedule/target.ts';
import stream from '../../configs/plans/stream.ts';
import { buildPlan } from '../build-plan.ts';
import { decoderOf } from '../decode.ts';
import { machineState } from '../measure.ts';
import { descendDelays } from './delays.ts';
import {
  buildPlans,
  buildPrompts,
  type KernelWork,
  openKernel,
  positionsWithin,
  timeKernels,
  timePrompts,
} from './kernels.ts';
import { calibrationPlans, calibrationPrompts, quickPlans } from './plans.ts';
import { runProbe } from './probe.ts';
import type { CalibrationRecord, TimedPoint, TimedPrompt } from './record.ts';
import { probedTarget } from './refit.ts';

/** A model by its name, its matrices rounded to `weights`. */
export interface CalibrationModel {
  readonly name: string;
  readonly weights?: WeightName;
}

export interface CalibrateInput extends KernelWork {
  /** Options of the machine are timed on the first one, and its poll delays are sought where its kernel is a stream. */
  readonly models: readonly (CalibrationModel & { readonly dims: ModelDims })[];
  /** The day, and what is measured. */
  readonly date: string;
  readonly deviceName: string;
  /** An interrupted calibration of the same machine, to go on from. */
  readonly before: CalibrationRecord | null;
  /** Told of all that is measured so far, each time that there is more. */
  readonly onRecord: (record: CalibrationRecord) => void;
  readonly seeksDelays: boolean;
  /** Few kernels. */
  readonly isQuick: boolean;
  /** Prompts alone: what replies were timed stays as it was. */
  readonly onlyPrompts: boolean;
  readonly onLine: (line: string) => void;
}

/** All that is measured; `refit` makes a target of it. @param from the target as it is known: architecture, sizes, delays to begin with */
export async function measureTarget(from: Target, input: CalibrateInput): Promise<CalibrationRecord> {
  const { signal, device, threads = availableParallelism(), onLine, onProgress, tokens, before } = input;
  onProgress(null, 'the probe');
  const figures = before?.figures ?? (await runProbe(from, { device, threads, signal }));
  for (const { term, x, value } of figures) {
    onLine(`probe: ${term}${x > 0 ? ` at ${x}` : ''} ${value.toPrecision(4)}`);
  }
  const probed = probedTarget(from, figures);
  const found = before ? before.pollCycles : await delaysOf(probed, input);
  const target = found ? { ...probed, pollCycles: found } : probed;
  const pollCycles = target.pollCycles ?? null;
  const recordOf = (points: readonly TimedPoint[], prompts: readonly TimedPrompt[]): CalibrationRecord => ({
    ...{ date: input.date, device: input.deviceName, arch: from.arch, tokens, figures, pollCycles },
    // Those that are gone on with keep their origin.
    ...(before?.pollCyclesFrom !== undefined && { pollCyclesFrom: before.pollCyclesFrom }),
    clocks: null,
    points: [...points],
    prompts: [...prompts],
  });
  const { points: pointsBefore = [], prompts: promptsBefore = [] } = before ?? {};
  input.onRecord(recordOf(pointsBefore, promptsBefore));
  const points = input.onlyPrompts
    ? pointsBefore
    : await pointsOf(target, input, (some) => input.onRecord(recordOf(some, promptsBefore)));
  const prompts = await promptsOf(target, input, (some) => input.onRecord(recordOf(points, some)));
  const state = machineState(from.kind === 'cuda' ? device : null);
  const clocks = state.kind === 'cuda' ? `${state.smClock} MHz SM, ${state.memoryClock} MHz memory` : null;
  const record = { ...recordOf(points, prompts), clocks };
  input.onRecord(record);
  return record;
}

/** Whether figures of one kernel have every position that is asked for: a record that is gone on from may be of others. */
export const isTimedAt = (
  points: readonly Pick<TimedPoint, 'position'>[],
  positions: readonly number[],
): boolean => positions.every((asked) => points.some(({ position }) => position === asked));

/** Builds and times all plans on all models that are not timed yet; kernels of one model after the other. */
async function pointsOf(
  target: Target,
  input: CalibrateInput,
  onPoints: (points: readonly TimedPoint[]) => void,
): Promise<TimedPoint[]> {
  const points: TimedPoint[] = [...(input.before?.points ?? [])];
  for (const [at, { name: model, weights, dims }] of input.models.entries()) {
    const positions = positionsWithin(dims, input.positions, input.tokens);
    const of = (plan: string) =>
      points.filter((one) => one.model === model && one.weights === weights && one.plan === plan);
    const isTimed = (plan: string) => isTimedAt(of(plan), positions);
    const wanted = input.isQuick ? quickPlans(target, at) : calibrationPlans(target, at);
    const plans = wanted.filter(({ name }) => !isTimed(name));
    const kernels = await buildPlans(dims, plans, target, input);
    for await (const { plan, points: timed } of timeKernels(kernels, input)) {
      const again = of(plan).filter(({ position }) => timed.some((one) => one.position === position));
      for (const one of again) points.splice(points.indexOf(one), 1);
      points.push(...timed.map((one) => ({ ...one, model, ...(weights && { weights }) })));
      onPoints(points);
      const rates = timed.map((one) => `${one.tokensPerSecond.median.toFixed(0)} at ${one.position}`);
      const whose = weights ? `${dims.name} in ${weights}` : dims.name;
      input.onLine(`${whose} ${plan}: ${rates.join(', ')} tok/s`);
    }
  }
  return points;
}

/** The same of prompts. */
async function promptsOf(
  target: Target,
  input: CalibrateInput,
  onPrompts: (prompts: readonly TimedPrompt[]) => void,
): Promise<TimedPrompt[]> {
  const prompts: TimedPrompt[] = [...(input.before?.prompts ?? [])];
  for (const [at, { name: model, dims }] of input.models.entries()) {
    const isTimed = (plan: string) => prompts.some((one) => one.model === model && one.plan === plan);
    const rows = calibrationPrompts(target, at).filter(({ plan }) => !isTimed(plan.name));
    for (const made of await buildPrompts(dims, rows, target, input)) {
      input.signal.throwIfAborted();
      const { name } = made.row.plan;
      input.onProgress(null, `timing prompts of ${dims.name} through ${name}`);
      const timed = await timePrompts(made, input);
      prompts.push(...timed.map((one) => ({ ...one, model })));
      onPrompts(prompts);
      const times = timed.map(({ tokens, millis }) => `${tokens} ${millis.median.toFixed(2)}`);
      input.onLine(`${dims.name} ${name}: ${times.join(', ')} ms`);
    }
  }
  return prompts;
}

/** The environment variable by which an engine is made with other delays: cycles by stage, in the order of the plan. */
const delayVariable = 'ONELAUNCH_POLL_CYCLES';

/** The delays under which the stream of the first model is fastest, at a short and at a long context together. */
async function delaysOf(target: Target, input: CalibrateInput): Promise<Target['pollCycles'] | null> {
  const { positions, tokens, signal, onLine, onProgress, seeksDelays } = input;
  if (!platformOf(target).streams || !seeksDelays) return null;
  const ends = [Math.min(...positions), Math.max(...positions)];
  const built = await buildPlan(stream, { dims: input.models[0]!.dims, target }, { signal });
  const before = process.env[delayVariable];
  const rateOf = async (cycles: readonly number[]): Promise<number> => {
    process.env[delayVariable] = cycles.join();
    const engine = await openKernel(built, ends[1]! + tokens + 1, input);
    try {
      const decoder = decoderOf(engine, tokens, signal);
      let product = 1;
      for (const position of ends) {
        await decoder.fillTo(position);
        const rates = [await decoder.reply(), await decoder.reply(), await decoder.reply()];
        product *= Math.max(...rates.map((one) => one.tokensPerSecond));
      }
      return Math.sqrt(product);
    } finally {
      engine.close();
    }
  };
  try {
    const { cycles, gain, tried } = await descendDelays(built.kernel.schedule, rateOf, (now, rate) =>
      onProgress(null, `poll delays ${now.join()}: ${rate.toFixed(0)} tok/s`),
    );
    const won = ((gain - 1) * 100).toFixed(1);
    onLine(`poll delays: ${won} % faster than before, of ${tried} sets: ${JSON.stringify(cycles)}`);
    return cycles;
  } finally {
    if (before === undefined) delete process.env[delayVariable];
    else process.env[delayVariable] = before;
  }
}
