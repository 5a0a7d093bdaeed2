// Whether what is predicted to be faster is faster: the order of an experiment's variants.
import { meanOf } from '../prune.ts';
import { areApart } from '../verdict.ts';
import type { Experiment, VariantRow } from './input.ts';
import type { VariantCosts } from './predict.ts';

/** The order by today's predictions, of variants that were timed; those that spill registers are left out, as no term counts them. */
export interface Order {
  /** The incumbent of the experiment. */
  readonly plan: string;
  readonly variants: number;
  readonly spilling: readonly string[];
  /** Of the fastest few measured, the fastest first: each one's place among all by prediction. */
  readonly firstPlaces: readonly number[];
  /** Two variants that their rounds tell apart: how many there are, and how many are in the right and in the wrong order. */
  readonly pairs: { readonly all: number; readonly right: number; readonly wrong: number };
  /** Kendall's tau of these pairs: 1 where all are right, -1 where none is; null where there are none. */
  readonly tau: number | null;
}

const mostFirst = 5;

/** Null where fewer than two variants have a prediction. */
export function orderOf(experiment: Experiment, costs: ReadonlyMap<VariantRow, VariantCosts>): Order | null {
  const timed = experiment.rows
    .filter(({ rank }) => rank !== null)
    .toSorted((a, b) => a.rank! - b.rank!)
    .flatMap((row) => {
      const predicted = meanOf(costs.get(row)?.costs.map((cost) => cost.tokensPerSecond) ?? []);
      return predicted === null ? [] : [{ row, predicted, median: row.ratio?.median ?? 1 }];
    });
  const spilling = timed.filter(({ row }) => row.decodeSpillBytes > 0);
  const rows = timed.filter((one) => !spilling.includes(one));
  if (rows.length < 2) return null;
  const placeOf = (at: number): number => {
    const { predicted } = rows[at]!;
    const before = rows.filter(
      (one, i) => one.predicted > predicted || (one.predicted === predicted && i < at),
    );
    return before.length + 1;
  };
  const apart = rows.flatMap((a, i) =>
    rows.slice(i + 1).flatMap((b) => (areApart(a.row.ratio, b.row.ratio) ? [[a, b]] : [])),
  );
  const signs = apart.map(([a, b]) => Math.sign((a!.predicted - b!.predicted) * (a!.median - b!.median)));
  const [right, wrong] = [1, -1].map((sign) => signs.filter((one) => one === sign).length);
  return {
    plan: experiment.header.plan,
    variants: rows.length,
    spilling: spilling.map(({ row }) => row.label),
    firstPlaces: rows.slice(0, mostFirst).map((_, at) => placeOf(at)),
    pairs: { all: apart.length, right: right!, wrong: wrong! },
    tau: apart.length === 0 ? null : (right! - wrong!) / apart.length,
  };
}
