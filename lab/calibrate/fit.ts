// The terms of a target from timed tokens: the values by which the costs of all of them come closest to what was measured.
import {
  besideMicros,
  type CostTerm,
  costTermNames,
  costTerms,
  readsMicros,
  type TermValues,
  type TimePart,
  tokenMicros,
  type Work,
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
/** Of a round's way, how much further is tried. */
const stride = 2;
/** Steps, as a share of the assumed value, at which the search ends. */
const finest = 1e-4;

/** The terms that occur in what was timed, but for those that are known. */
const sought = (tokens: readonly TimedToken[], known: TermValues): CostTerm[] => {
  const used = new Set(
    tokens.flatMap(({ parts }) =>
      parts.flatMap(({ chains, work }) =>
        [...chains.flat(), ...work].filter(({ amount }) => amount > 0).map((one) => one.term),
      ),
    ),
  );
  return costTermNames.filter((term) => used.has(term) && known[term] === undefined);
};

/** So much of each term that is sought, by its place, and what the known ones come to [us]. Loops over these take nearly all of a fit. */
interface Amounts {
  readonly terms: Int32Array;
  readonly amounts: Float64Array;
  readonly known: number;
}

/** One run of reads beside chains. */
interface CompactPart {
  /** [us] */
  readonly bytes: number;
  readonly reads: TimePart['reads'];
  readonly stands: { readonly micros: number; readonly work: Amounts } | null;
  readonly chains: readonly Amounts[];
}

interface CompactToken {
  /** Parts, by their place in a list that all tokens share, and how often each runs. */
  readonly parts: Int32Array;
  readonly runs: Float64Array;
  /** All that is done one after the other, reads without chains among it. */
  readonly rest: Amounts;
  /** Measured [us]. */
  readonly micros: number;
}

/** Tokens with amounts in the order of `terms`, and the parts that they share: those of a plan are the same at many positions. */
function compact(tokens: readonly TimedToken[], terms: readonly CostTerm[], known: TermValues) {
  const parts: CompactPart[] = [];
  const places = new Map<string, number>();
  const amountsOf = (work: readonly Work[], more = 0): Amounts => {
    const amounts = new Map<number, number>();
    let sum = more;
    for (const { term, amount } of work) {
      const at = terms.indexOf(term);
      if (at === -1) sum += amount * (known[term] ?? costTerms[term].assumed);
      else amounts.set(at, (amounts.get(at) ?? 0) + amount);
    }
    return {
      terms: Int32Array.from(amounts.keys()),
      amounts: Float64Array.from(amounts.values()),
      known: sum,
    };
  };
  const placeOf = (part: CompactPart): number => {
    const key = JSON.stringify(part);
    const place = places.get(key) ?? parts.push(part) - 1;
    places.set(key, place);
    return place;
  };
  const found = tokens.map(({ parts: all, bandwidth, micros }): CompactToken => {
    const bytesOf = ({ bytes }: Pick<TimePart, 'bytes'>) => bytes / (bandwidth * 1e3);
    const beside = all.filter(({ chains }) => chains.length > 0);
    const alone = all.filter(({ chains }) => chains.length === 0);
    return {
      micros,
      parts: Int32Array.from(beside, (part) =>
        placeOf({
          bytes: bytesOf(part),
          reads: part.reads,
          stands: part.stands ? { micros: bytesOf(part.stands), work: amountsOf(part.stands.work) } : null,
          chains: part.chains.map((chain) => amountsOf(chain)),
        }),
      ),
      runs: Float64Array.from(beside, ({ runs }) => runs),
      rest: amountsOf(
        all.flatMap(({ runs, work }) => work.map(({ term, amount }) => ({ term, amount: runs * amount }))),
        alone.reduce((sum, part) => sum + part.runs * bytesOf(part), 0),
      ),
    };
  });
  return { parts, tokens: found };
}

function amountMicros({ terms, amounts, known }: Amounts, values: Float64Array): number {
  let sum = known;
  for (let i = 0; i < terms.length; i++) sum += amounts[i]! * values[terms[i]!]!;
  return sum;
}

const runMicros = ({ bytes, reads, stands, chains }: CompactPart, values: Float64Array): number =>
  besideMicros(
    stands ? readsMicros(bytes, stands.micros, amountMicros(stands.work, values)) : bytes,
    chains.map((chain) => amountMicros(chain, values)),
    reads,
  );

/**
 * Pattern search (Hooke and Jeeves) on the squared logarithms of predicted over measured, from the assumed values on; no term below 0. The
 * same tokens give the same terms.
 * @param known values that stay as they are
 */
export function fitTerms(tokens: readonly TimedToken[], known: TermValues = {}): TermValues {
  const terms = sought(tokens, known);
  const { parts, tokens: timed } = compact(tokens, terms, known);
  const assumed = terms.map((term) => costTerms[term].assumed);
  const values = Float64Array.from(assumed);
  const steps = assumed.map((value) => value / 2);
  /** Kept from one value to the next: few parts have a term. */
  const micros = Float64Array.from(parts, (part) => runMicros(part, values));
  const partsWith = terms.map((_, i) =>
    [...parts.keys()].filter((at) => parts[at]!.chains.some((chain) => chain.terms.includes(i))),
  );
  const set = (i: number, value: number): void => {
    values[i] = value;
    for (const at of partsWith[i]!) micros[at] = runMicros(parts[at]!, values);
  };
  const loss = (): number => {
    let sum = 0;
    for (const token of timed) {
      let predicted = amountMicros(token.rest, values);
      for (let i = 0; i < token.parts.length; i++) predicted += token.runs[i]! * micros[token.parts[i]!]!;
      sum += Math.log(predicted / token.micros) ** 2;
    }
    for (const [i, value] of assumed.entries()) sum += priorWeight * (values[i]! / value - 1) ** 2;
    return sum;
  };
  let least = loss();
  const moves = (i: number): boolean => {
    const [before, step] = [values[i]!, steps[i]!];
    for (const change of [step, -step]) {
      set(i, Math.max(0, before + change));
      const now = loss();
      if (now < least) {
        least = now;
        steps[i] = step * 1.3;
        return true;
      }
    }
    set(i, before);
    return false;
  };
  /** Goes on in the direction in which a round went, since terms that occur together move together. */
  const goOn = (before: Float64Array): void => {
    const kept = values.slice();
    for (const [i, value] of kept.entries()) set(i, Math.max(0, value + stride * (value - before[i]!)));
    const now = loss();
    if (now < least) least = now;
    else for (const [i, value] of kept.entries()) set(i, value);
  };
  for (let round = 0; round < mostRounds; round++) {
    const before = values.slice();
    const moved = terms.filter((_, i) => moves(i));
    if (moved.length > 0) {
      goOn(before);
      continue;
    }
    for (const i of steps.keys()) steps[i]! /= 2;
    if (steps.every((step, i) => step < finest * assumed[i]!)) break;
  }
  const found = terms.map((term, i) => [term, values[i]! < 1e-6 ? 0 : Number(values[i]!.toPrecision(4))]);
  return { ...known, ...Object.fromEntries(found) };
}
