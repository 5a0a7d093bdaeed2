// What the records of a journal say of each variant: what became of it, and its rounds beside the incumbent.
import type {
  BuiltRecord,
  JournalRecord,
  TimedRecord,
  VariantRecord,
  VerifiedRecord,
} from './journal-records.ts';
import { meanOf } from './prune.ts';

/**
 * pruned: not worth a build. refused: by the compiler. wrong: out of tolerance, or it could not be run. unrepeatable: two replies at
 * one position differ. found, built, verified, timed: how far it has come.
 */
export type VariantState =
  | 'pruned'
  | 'refused'
  | 'wrong'
  | 'unrepeatable'
  | 'found'
  | 'built'
  | 'verified'
  | 'timed';

/** Replies of a variant and of the incumbent that were made in turns. */
interface PairedRound {
  readonly rung: number;
  /** Tokens a second, for each position. */
  readonly rates: readonly number[];
  readonly baseRates: readonly number[];
  /** Geometric mean over the positions of rate / incumbent's rate. */
  readonly ratio: number;
}

export interface Finding {
  readonly variant: VariantRecord;
  readonly built: BuiltRecord | null;
  readonly verified: VerifiedRecord | null;
  readonly rounds: readonly PairedRound[];
  /** Of the tokens of a reply, for each position; null: not timed there. */
  readonly hashes: readonly (string | null)[];
  readonly state: VariantState;
}

/** Findings in the order of the journal, the incumbent first; its rounds are those of itself beside itself, of ratio 1. */
export function findingsOf(
  records: readonly JournalRecord[],
  positions: readonly number[],
): readonly Finding[] {
  const variants = new Map<string, VariantRecord>();
  const built = new Map<string, BuiltRecord>();
  const verified = new Map<string, VerifiedRecord>();
  for (const record of records) {
    if (record.kind === 'variant' && !variants.has(record.id)) variants.set(record.id, record);
    if (record.kind === 'built') built.set(record.id, record);
    if (record.kind === 'verified') verified.set(record.id, record);
  }
  const [base] = variants.keys();
  const timed = timedBy(records);
  const rounds = roundsOf(timed, positions, base ?? '');
  return [...variants.values()].map((variant): Finding => {
    const of = (position: number) => [
      ...new Set(
        timed.flatMap(({ record: { id, ...one } }) =>
          id === variant.id && one.position === position ? [one.tokensHash] : [],
        ),
      ),
    ];
    const hashes = positions.map(of);
    const finding = {
      variant,
      built: built.get(variant.id) ?? null,
      verified: verified.get(variant.id) ?? null,
      rounds: rounds.get(variant.id) ?? [],
      hashes: hashes.map(([hash]) => hash ?? null),
    };
    return { ...finding, state: hashes.some((all) => all.length > 1) ? 'unrepeatable' : stateOf(finding) };
  });
}

function stateOf({ variant, built, verified, rounds }: Omit<Finding, 'state' | 'hashes'>): VariantState {
  if (variant.pruned !== null) return 'pruned';
  if (built?.problem) return 'refused';
  if (verified && !verified.ok) return 'wrong';
  if (rounds.length > 0) return 'timed';
  if (verified) return 'verified';
  return built ? 'built' : 'found';
}

/** Whether it may be timed, now or when it is built. */
export const isAlive = ({ state }: Finding): boolean =>
  state === 'found' || state === 'built' || state === 'verified' || state === 'timed';

/** A reply with the number of the run that made it. */
interface Timed {
  readonly run: number;
  readonly record: TimedRecord;
}

function timedBy(records: readonly JournalRecord[]): readonly Timed[] {
  let run = 0;
  return records.flatMap((record) => {
    if (record.kind === 'run') run++;
    return record.kind === 'timed' ? [{ run, record }] : [];
  });
}

/** Rounds in which the variant and the incumbent have a reply at every position: others were broken off. */
function roundsOf(
  timed: readonly Timed[],
  positions: readonly number[],
  base: string,
): ReadonlyMap<string, readonly PairedRound[]> {
  /** Round -> variant -> position -> rate. */
  const rates = new Map<string, { rung: number; of: Map<string, Map<number, number>> }>();
  for (const { run, record } of timed) {
    const { id, rung, group, round, position, tokensPerSecond } = record;
    const key = [run, rung, group, round].join();
    const one = rates.get(key) ?? { rung, of: new Map<string, Map<number, number>>() };
    rates.set(key, one);
    const own = one.of.get(id) ?? new Map<number, number>();
    one.of.set(id, own.set(position, tokensPerSecond));
  }
  const found = new Map<string, PairedRound[]>();
  for (const { rung, of } of rates.values()) {
    const ratesOf = (id: string): readonly number[] | null => {
      const known = positions.flatMap((position) => of.get(id)?.get(position) ?? []);
      return known.length === positions.length ? known : null;
    };
    const baseRates = ratesOf(base);
    if (!baseRates) continue;
    for (const id of of.keys()) {
      const own = ratesOf(id);
      if (!own) continue;
      const ratio = meanOf(own.map((rate, i) => rate / baseRates[i]!))!;
      found.set(id, [...(found.get(id) ?? []), { rung, rates: own, baseRates, ratio }]);
    }
  }
  return found;
}
