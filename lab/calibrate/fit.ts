// The terms of a target from timed tokens: the values by which the costs of all of them come closest to what was measured.
import {
  type CostTerm,
  costTermNames,
  costTerms,
  type TermValues,
  type TimePart,
  tokenMicros,
} from '../../codegen/schedule/terms.ts';

/** A token that was timed. */
export interface TimedToken {
  readonly parts: readonly TimePart[];
  /** At which its bytes come [GB/s]. */
  readonly bandwidth: number;
  /** [us] */
  readonly micros: number;
}

/** How far a prediction is off: 0.1 is a tenth too long. */
export const errorOf = ({ parts, bandwidth, micros }: TimedToken, terms: TermValues): number =>
  tokenMicros(parts, terms, bandwidth) / micros - 1;

/**
 * What a term's being off by its assumed value costs, beside a token's being off by all of its time: too little to keep a measurement
 * from speaking, enough to decide between terms that always occur together.
 */
const priorWeight = 1e-3;
const mostRounds = 3000;
/** Steps, as a share of the assumed value, at which the search ends. */
const finest = 1e-4;

/** The terms that occur in what was timed, but for those that are known. */
const sought = (tokens: readonly TimedToken[], known: TermValues): CostTerm[] => {
  const used = new Set(
    tokens.flatMap(({ parts }) =>
      parts.flatMap(({ work }) => work.filter(({ amount }) => amount > 0).map((one) => one.term)),
    ),
  );
  return costTermNames.filter((term) => used.has(term) && known[term] === undefined);
};

/**
 * Coordinate descent on the squared logarithms of predicted over measured, from the assumed values on; no term below 0. The same tokens give
 * the same terms.
 * @param known values that stay as they are
 */
export function fitTerms(tokens: readonly TimedToken[], known: TermValues = {}): TermValues {
  const terms = sought(tokens, known);
  const values: Partial<Record<CostTerm, number>> = { ...known };
  const steps = new Map<CostTerm, number>();
  for (const term of terms) {
    values[term] = costTerms[term].assumed;
    steps.set(term, 0.5 * costTerms[term].assumed);
  }
  const loss = () => {
    const prior = terms.reduce((sum, term) => sum + (values[term]! / costTerms[term].assumed - 1) ** 2, 0);
    return tokens.reduce(
      (sum, { parts, bandwidth, micros }) =>
        sum + Math.log(tokenMicros(parts, values, bandwidth) / micros) ** 2,
      priorWeight * prior,
    );
  };
  let least = loss();
  const moves = (term: CostTerm): boolean => {
    const [before, step] = [values[term]!, steps.get(term)!];
    for (const change of [step, -step]) {
      values[term] = Math.max(0, before + change);
      const now = loss();
      if (now < least) {
        least = now;
        steps.set(term, step * 1.3);
        return true;
      }
    }
    values[term] = before;
    return false;
  };
  for (let round = 0; round < mostRounds; round++) {
    const moved = terms.filter(moves);
    if (moved.length > 0) continue;
    for (const term of terms) steps.set(term, steps.get(term)! / 2);
    if (terms.every((term) => steps.get(term)! < finest * costTerms[term].assumed)) break;
  }
  return Object.fromEntries(
    Object.entries(values).map(([term, value]) => [term, value < 1e-6 ? 0 : Number(value.toPrecision(4))]),
  );
}
