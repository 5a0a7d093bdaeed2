// How sure a median of paired ratios is, and what may be said of it.
import { spreadOf } from './measure.ts';

/** better, worse: the whole interval is on one side of 1. equal: 1 lies in it. unsure: too few rounds to say. */
export type Verdict = 'better' | 'worse' | 'equal' | 'unsure';

export interface Interval {
  readonly median: number;
  readonly low: number;
  readonly high: number;
  /** Probability that an interval so made has the true median in it, whatever the distribution. */
  readonly coverage: number;
  /** (greatest - least) / median. */
  readonly spread: number;
}

const wanted = 0.95;

/**
 * The interval between two of the sorted values that has the median in it with 95 %: as many tosses of a coin as there are values fall on
 * one side of it. Up to five values cannot be so sure, and the interval is all of them. @param values at least one
 */
export function intervalOf(values: readonly number[]): Interval {
  const sorted = [...values].sort((a, b) => a - b);
  const n = sorted.length;
  let cut = 0;
  while (2 * (cut + 1) < n && coverageOf(n, cut + 1) >= wanted) cut++;
  const { median, spread } = spreadOf(values);
  return { median, low: sorted[cut]!, high: sorted[n - 1 - cut]!, coverage: coverageOf(n, cut), spread };
}

/** Between the values `cut` places from either end: 1 - 2 P(at most `cut` heads of n). */
function coverageOf(n: number, cut: number): number {
  let ways = 1;
  let sum = 0;
  for (let heads = 0; heads <= cut; heads++) {
    sum += ways;
    ways = (ways * (n - heads)) / (heads + 1);
  }
  return Math.max(0, 1 - (2 * sum) / 2 ** n);
}

/** Of two rounds, every other interval would miss the median. */
const leastCoverage = 0.75;

export function verdictOf({ low, high, coverage }: Pick<Interval, 'low' | 'high' | 'coverage'>): Verdict {
  if (coverage < leastCoverage) return 'unsure';
  if (low > 1) return 'better';
  return high < 1 ? 'worse' : 'equal';
}

export const overlap = (a: Pick<Interval, 'low' | 'high'>, b: Pick<Interval, 'low' | 'high'>): boolean =>
  a.low <= b.high && b.low <= a.high;

const even = { low: 1, high: 1 };

/** Whether what was measured tells two ratios apart: intervals that overlap do not, and one of too few rounds says nothing.
 *  @param a null: the incumbent, whose ratio is 1 */
export const areApart = (a: Interval | null, b: Interval | null): boolean =>
  [a, b].every((one) => one === null || verdictOf(one) !== 'unsure') && !overlap(a ?? even, b ?? even);
