// A target from what a calibration measured: figures of the probe as they are, the terms of stages fitted to timed tokens.
import { estimate, makeSchedule } from '../../codegen/index.ts';
import { bandwidthOf, type Target } from '../../codegen/schedule/target.ts';
import { costTermNames, type TermValues } from '../../codegen/schedule/terms.ts';
import { resolveModel } from '../../configs/resolve.ts';
import { invariant } from '../../errors.ts';
import { errorOf, fitTerms, type TimedToken } from './fit.ts';
import { calibrationPlans } from './plans.ts';
import { cacheOf, figureOf } from './probe.ts';
import type { CalibrationRecord, ProbeFigure, TimedPoint } from './record.ts';

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

/** @param from what is known without a measurement: name, architecture, sizes */
export function refit(from: Target, record: CalibrationRecord): { target: Target; points: FittedPoint[] } {
  const { figures, points, pollCycles, origin } = record;
  const probed = probedTarget(from, figures);
  const delayed = pollCycles ? { ...probed, pollCycles } : probed;
  const tokens = points.map((point) => tokenOf(point, record, delayed));
  const known = knownTerms(figures);
  const schemes = [...new Set(tokens.map(({ scheme }) => scheme))];
  const fitted = schemes.map((name) =>
    fitTerms(
      tokens.filter(({ scheme }) => scheme === name),
      known,
    ),
  );
  const terms: TermValues = Object.assign({ ...known }, ...fitted);
  const models = [...new Set(points.map(({ model }) => model))].join(', ');
  const target: Target = {
    ...delayed,
    terms,
    origin: {
      '*': origin,
      ...Object.fromEntries(
        ['bandwidth', ...Object.keys(known)].map((term) => [term, rangeOf(figures, term)]),
      ),
      terms: `fitted to ${points.length} timed tokens of ${models}`,
      ...(pollCycles && { pollCycles: `coordinate descent on ${points[0]!.model}` }),
    },
  };
  return { target, points: points.map((point, i) => ({ ...point, error: errorOf(tokens[i]!, terms) })) };
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

/** What an average token of a timed reply is made of. */
function tokenOf(
  { model, plan, position, tokensPerSecond }: TimedPoint,
  { tokens }: CalibrationRecord,
  target: Target,
): TimedToken & { readonly scheme: string } {
  const found = calibrationPlans(target, true).find(({ name }) => name === plan);
  invariant(found, `${plan} is a plan of calibrations`);
  const schedule = makeSchedule(resolveModel(model).dims, found, target);
  const { parts, bytes } = estimate(schedule, position + Math.floor(tokens / 2));
  return {
    ...{ parts, scheme: schedule.scheme, micros: 1e6 / tokensPerSecond.median },
    bandwidth: bandwidthOf(target, bytes.weights)!,
  };
}
