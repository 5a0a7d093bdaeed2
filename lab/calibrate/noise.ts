// How steady a machine was while it was measured: how far what was timed more than once is apart.
import type { Spread } from '../measure.ts';
import { wanted } from '../report/predict.ts';
import type { CalibrationRecord } from './record.ts';

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
const sorted = (figures: readonly Spread[]): number[] =>
  figures.map(({ spread }) => spread).sort((a, b) => a - b);
/** What half of them are within. */
const half = (spreads: readonly number[]): number => spreads[Math.ceil(spreads.length / 2) - 1]!;

/** How far figures spread, in words. @param figures at least one */
export function spreadText(figures: readonly Spread[]): string {
  if (figures.every(({ least, most }) => least === most)) return 'timed once each';
  const spreads = sorted(figures);
  return `half of them spread by up to ${percent(half(spreads))}, all by up to ${percent(spreads.at(-1)!)}`;
}

/** What spreads by more than predictions are to hold within: they cannot, by such a record. Empty where the machine was steady. */
export function noiseOf({
  figures,
  points,
}: Pick<CalibrationRecord, 'figures' | 'points'>): readonly string[] {
  const bandwidth = figures.findLast(({ term }) => term === 'bandwidth');
  const replies = sorted(points.map(({ tokensPerSecond }) => tokensPerSecond));
  return [
    ...(bandwidth && (bandwidth.most - bandwidth.least) / bandwidth.value > wanted
      ? [`bandwidth from ${bandwidth.least} to ${bandwidth.most} GB/s`]
      : []),
    ...(replies.length > 0 && half(replies) > wanted
      ? [`half of ${replies.length} figures of replies spread by ${percent(half(replies))} or more`]
      : []),
  ];
}
