// The terms of a target from timed tokens: the values by which the costs of all of them come closest to what was measured.
import {
  type CostTerm,
  costTermNames,
  costTerms,
  longer,
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

/** Reads [us] and amounts by term, of all that is done one after the other, or of one part whose reads go on beside its work. */
interface CompactPart {
  readonly runs: number;
  readonly reads: number;
  readonly amounts: Float64Array;
  readonly beside: boolean;
}

/** The parts of a token with amounts in the order of `terms`, and with what is known as time that is not moved. */
function compact(
  { parts, bandwidth }: TimedToken,
  terms: readonly CostTerm[],
  known: TermValues,
): CompactPart[] {
  const apart = parts.filter(({ beside }) => !beside);
  const one = (all: readonly TimePart[], beside: boolean): CompactPart => {
    const amounts = new Float64Array(terms.length + 1);
    let reads = 0;
    for (const { runs, bytes, work } of all) {
      const times = beside ? 1 : runs;
      reads += (times * bytes) / (bandwidth * 1e3);
      for (const { term, amount } of work) {
        const at = terms.indexOf(term);
        // The last amount is of 1 us: what is known.
        if (at === -1) amounts[terms.length]! += times * amount * (known[term] ?? costTerms[term].assumed);
        else amounts[at]! += times * amount;
      }
    }
    return { runs: beside ? all[0]!.runs : 1, reads, amounts, beside };
  };
  return [
    ...(apart.length > 0 ? [one(apart, false)] : []),
    ...parts.filter(({ beside }) => beside).map((part) => one([part], true)),
  ];
}

function compactMicros(parts: readonly CompactPart[], values: Float64Array): number {
  let sum = 0;
  for (const { runs, reads, amounts, beside } of parts) {
    let work = 0;
    for (let i = 0; i < amounts.length; i++) work += amounts[i]! * values[i]!;
    sum += runs * (beside ? longer(reads, work) : reads + work);
  }
  return sum;
}

/**
 * Coordinate descent on the squared logarithms of predicted over measured, from the assumed values on; no term below 0. The same tokens give
 * the same terms.
 * @param known values that stay as they are
 */
export function fitTerms(tokens: readonly TimedToken[], known: TermValues = {}): TermValues {
  const terms = sought(tokens, known);
  const timed = tokens.map((token) => ({ parts: compact(token, terms, known), micros: token.micros }));
  const assumed = terms.map((term) => costTerms[term].assumed);
  const values = Float64Array.from([...assumed, 1]);
  const steps = assumed.map((value) => value / 2);
  const loss = (): number => {
    let sum = 0;
    for (const { parts, micros } of timed) sum += Math.log(compactMicros(parts, values) / micros) ** 2;
    for (const [i, value] of assumed.entries()) sum += priorWeight * (values[i]! / value - 1) ** 2;
    return sum;
  };
  let least = loss();
  const moves = (i: number): boolean => {
    const [before, step] = [values[i]!, steps[i]!];
    for (const change of [step, -step]) {
      values[i] = Math.max(0, before + change);
      const now = loss();
      if (now < least) {
        least = now;
        steps[i] = step * 1.3;
        return true;
      }
    }
    values[i] = before;
    return false;
  };
  for (let round = 0; round < mostRounds; round++) {
    const moved = terms.filter((_, i) => moves(i));
    if (moved.length > 0) continue;
    for (const i of steps.keys()) steps[i]! /= 2;
    if (steps.every((step, i) => step < finest * assumed[i]!)) break;
  }
  const found = terms.map((term, i) => [term, values[i]! < 1e-6 ? 0 : Number(values[i]!.toPrecision(4))]);
  return { ...known, ...Object.fromEntries(found) };
}
