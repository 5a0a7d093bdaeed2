// An experiment from its variants to its last round: built, verified, timed; what is in the journal already is not done again.
import { OnelaunchError } from '../errors.ts';
import { buildAll } from './build-all.ts';
import { type ContestInput, enter, timeGroup } from './contest.ts';
import type { Contestant } from './contestant.ts';
import type { Candidate } from './enumerate.ts';
import { findingsOf } from './findings.ts';
import type { Journal } from './journal.ts';
import type { JournalRecord } from './journal-records.ts';
import { cpuName, machineState } from './measure.ts';
import { type Group, nextGroup, type Strategy } from './strategy.ts';

export interface Experiment {
  /** The incumbent first. */
  readonly candidates: readonly Candidate[];
  readonly strategy: Strategy;
}

export interface ExploreInput extends Omit<ContestInput, 'golden'> {
  /** What is done: all of it, or one half, where the other is done on another machine. */
  readonly mode: 'all' | 'build' | 'measure';
  /** Variants that are compiled at a time. @default as many as there are cores */
  readonly jobs?: number | undefined;
  /** No group of variants begins to be timed that would end later after the start [ms], by what the one before it took; the first begins within it. */
  readonly budget: number | null;
  /** What is right. Asked for when something is to be verified: it may take long to compute. */
  readonly goldenOf: () => Promise<ContestInput['golden']>;
}

type Why = Extract<JournalRecord, { kind: 'done' }>['why'];

/** Goes on with an experiment until it is done or its time is over. @returns which of both */
export async function explore(
  { candidates, strategy }: Experiment,
  journal: Journal,
  input: ExploreInput,
): Promise<Why> {
  const started = performance.now();
  const millis = () => performance.now() - started;
  const gpu = input.checked.target.kind === 'cuda' ? (input.device ?? 0) : null;
  /** A machine that only builds may have no GPU. */
  const machine = () => machineState(input.mode === 'build' ? null : gpu);
  const begin = (device: string | null) =>
    journal.append({
      ...{ kind: 'run', date: new Date().toISOString(), device, cpu: cpuName(), machine: { ...machine() } },
    });
  const known = new Set(journal.records.flatMap((one) => (one.kind === 'variant' ? [one.id] : [])));
  begin(null);
  for (const { record } of candidates) if (!known.has(record.id)) journal.append(record);
  await buildAll(candidates, journal, { ...input, before: input.mode === 'measure' });
  refuseBrokenBase(candidates[0]!, journal);
  const why =
    input.mode === 'build' ? 'built' : await time(candidates, strategy, journal, { ...input, begin, millis });
  journal.append({ kind: 'done', why, seconds: Math.round(millis()) / 1000, machine: { ...machine() } });
  return why;
}

interface TimeInput extends ExploreInput {
  /** Tells the journal on what is timed from now on. */
  readonly begin: (device: string) => void;
  /** Since the start. */
  readonly millis: () => number;
}

async function time(
  candidates: readonly Candidate[],
  strategy: Strategy,
  journal: Journal,
  input: TimeInput,
): Promise<Why> {
  const { positions } = input.header;
  const next = () => nextGroup(findingsOf(journal.records, positions), strategy);
  if (next() === null) return 'timed';
  const golden = await input.goldenOf();
  const base = await enter(candidates[0]!, journal, { ...input, golden });
  if (!base) {
    refuseBrokenBase(candidates[0]!, journal);
    throw new OnelaunchError('failed', `the incumbent ${candidates[0]!.record.label} cannot be timed`);
  }
  try {
    refuseOtherDevice(journal, base.engine.device);
    input.begin(base.engine.device);
    /** Of a reply in the group before, with its share of what else a group takes. */
    let replyMillis = 0;
    for (let number = 0; ; number++) {
      const group = next();
      if (group === null) return 'timed';
      const begun = input.millis();
      if (input.budget !== null && !hasTime(group, input.budget - begun, replyMillis)) return 'budget';
      const open: Contestant[] = [];
      try {
        for (const id of group.ids) {
          const candidate = candidates.find(({ record }) => record.id === id)!;
          const one = await enter(candidate, journal, { ...input, golden });
          if (one) open.push(one);
        }
        if (open.length > 0) await timeGroup([base, ...open], group, number, journal, { ...input, golden });
      } finally {
        for (const { engine } of open) engine.close();
      }
      replyMillis = (input.millis() - begun) / repliesOf(group);
      report(group.ids, journal, input);
    }
  } finally {
    base.engine.close();
  }
}

/** At each position. */
const repliesOf = ({ rounds, ids }: Group): number => rounds * (ids.length + 1);

/** Whether a group is expected to end in the time that is left [ms]; one of which nothing is known begins while there is any. */
export const hasTime = (group: Group, left: number, replyMillis: number): boolean =>
  left > 0 && repliesOf(group) * replyMillis <= left;

/** The ratio of each variant of a group that was timed, as a line. */
function report(ids: readonly string[], journal: Journal, input: TimeInput): void {
  for (const { variant, rounds } of findingsOf(journal.records, input.header.positions)) {
    const last = rounds.at(-1);
    if (!ids.includes(variant.id) || !last) continue;
    const rates = last.rates.map((rate) => rate.toFixed(1)).join(', ');
    input.onLine(
      `${variant.label}: ${rates} tok/s in the last round, ${last.ratio.toFixed(3)} of the incumbent`,
    );
  }
}

/** @throws OnelaunchError where the incumbent is refused or wrong: nothing can be compared with it */
function refuseBrokenBase({ record: { id, label } }: Candidate, journal: Journal): void {
  for (const one of journal.records) {
    const problem = (one.kind === 'built' || one.kind === 'verified') && one.id === id ? one.problem : null;
    if (problem === null) continue;
    throw new OnelaunchError('failed', `the incumbent ${label} cannot be compared with: ${problem}`, {
      hint: 'see gen verify; another incumbent is chosen with --plan',
    });
  }
}

function refuseOtherDevice(journal: Journal, device: string): void {
  const before = journal.records.find(
    (one) => one.kind === 'run' && one.device !== null && one.device !== device,
  );
  if (before?.kind !== 'run') return;
  throw new OnelaunchError('usage', `${journal.path} was timed on ${before.device}, and this is ${device}`, {
    hint: 'give another --journal; journals of one device can be merged',
  });
}
