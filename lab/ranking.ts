// Findings as a ranked table: what was measured beside what was predicted, and what may be said of each.
import type { Finding, VariantState } from './findings.ts';
import { spreadOf } from './measure.ts';
import { meanOf } from './prune.ts';
import { areApart, type Interval, intervalOf, type Verdict, verdictOf } from './verdict.ts';

export interface RankedRow {
  /** 1 is the best. Null: not timed. */
  readonly rank: number | null;
  /** Its interval overlaps that of the best, or one of both is of too few rounds to say anything. */
  readonly equalsBest: boolean;
  readonly id: string;
  readonly label: string;
  readonly state: VariantState;
  readonly isBase: boolean;
  /** Median tokens a second, for each position. */
  readonly rates: readonly (number | null)[];
  readonly predicted: readonly (number | null)[];
  /** Rate / incumbent's rate of the same round, over all positions; null for the incumbent and what was not timed. */
  readonly ratio: Interval | null;
  /** The same of the predictions. */
  readonly predictedRatio: number | null;
  readonly verdict: Verdict | null;
  readonly rounds: number;
  readonly rung: number;
  readonly hashes: readonly (string | null)[];
  /** Greatest difference of a logit, and the greatest allowed. */
  readonly worst: number | null;
  readonly allowed: number | null;
  /** Of the kernel that has most; null on a CPU. */
  readonly registers: number | null;
  readonly spillBytes: number | null;
  /** Why it was not timed. */
  readonly why: string | null;
}

/** Best first: who came to a later rung before others, since it met the best there. The incumbent is where its ratio of 1 puts it. */
export function ranked(findings: readonly Finding[]): readonly RankedRow[] {
  const base = findings[0];
  if (!base) return [];
  const rows = findings.map((finding) => rowOf(finding, base));
  const last = Math.max(0, ...rows.filter(({ isBase }) => !isBase).map(({ rung }) => rung));
  const timed = rows
    .filter(isRanked)
    .map((row) => (row.isBase ? { ...row, rung: last } : row))
    .sort((a, b) => b.rung - a.rung || medianOf(b) - medianOf(a));
  const [first] = timed;
  const equals = (row: RankedRow) => row === first || !areApart(row.ratio, first!.ratio);
  return [
    ...timed.map((row, i) => ({ ...row, rank: i + 1, equalsBest: equals(row) })),
    ...rows.filter((row) => !isRanked(row)),
  ];
}

/** Why some stand before others of a greater ratio; null where all come from one rung. @param rows best first */
export function finalText(rows: readonly RankedRow[]): string | null {
  const timed = rows.filter(({ rank }) => rank !== null);
  const rungs = [...new Set(timed.map(({ rung }) => rung))];
  if (rungs.length < 2) return null;
  const places = rungs.slice(0, -1).map((rung) => {
    const ranks = timed.flatMap((row) => (row.rung === rung ? [row.rank] : []));
    return ranks.length === 1 ? ranks[0] : `${ranks[0]} to ${ranks.at(-1)}`;
  });
  return `${places.join(', then ')} were timed once more, side by side: they stand before others, whatever the ratios`;
}

const isRanked = ({ state, isBase, rates }: RankedRow): boolean =>
  state === 'timed' && (isBase ? rates.every((rate) => rate !== null) : true);

const medianOf = ({ ratio }: RankedRow): number => ratio?.median ?? 1;

function rowOf({ variant, state, rounds, built, verified, hashes }: Finding, base: Finding): RankedRow {
  const isBase = variant.id === base.variant.id;
  const rung = rungOf(rounds.map((round) => round.rung));
  // The incumbent is in every round.
  const own = isBase ? rounds : rounds.filter((round) => round.rung === rung);
  const isTimed = state === 'timed' && own.length > 0;
  const ratio = isTimed && !isBase ? intervalOf(own.map((round) => round.ratio)) : null;
  const resources = built?.resources ?? [];
  const most = (values: readonly number[]) => (values.length === 0 ? null : Math.max(...values));
  const ratios = variant.predicted.map((rate, i) => {
    const beside = base.variant.predicted[i] ?? null;
    return rate === null || beside === null ? null : rate / beside;
  });
  return {
    ...{ rank: null, equalsBest: false, id: variant.id, label: variant.label, state, isBase, hashes },
    rates: variant.predicted.map((_, i) =>
      isTimed ? spreadOf(own.map((round) => round.rates[i]!)).median : null,
    ),
    ...{ predicted: variant.predicted, ratio, predictedRatio: meanOf(ratios) },
    ...{ verdict: ratio && verdictOf(ratio), rounds: own.length, rung },
    ...{ worst: verified?.worst ?? null, allowed: verified?.allowed ?? null },
    registers: most(resources.map((one) => one.registers)),
    spillBytes: most(resources.map((one) => one.spillBytes)),
    why: whyNot(state, variant.pruned ?? built?.problem ?? verified?.problem ?? null),
  };
}

function whyNot(state: VariantState, problem: string | null): string | null {
  if (state === 'unrepeatable') return 'two replies at one position are not the same';
  return problem;
}

/** The rung with most rounds, of equal ones the last: a rung that was broken off counts for nothing. */
function rungOf(rungs: readonly number[]): number {
  const count = (rung: number) => rungs.filter((one) => one === rung).length;
  return [...new Set(rungs)].reduce(
    (found, rung) =>
      count(rung) > count(found) || (count(rung) === count(found) && rung > found) ? rung : found,
    rungs[0] ?? 0,
  );
}
