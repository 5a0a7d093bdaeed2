// An experiment from its variants to its last round: built, verified, timed; what is in the journal already is not done again.
import { availableParallelism } from 'node:os';
import { compilersHere } from '../codegen/build/recipe.ts';
import { OnelaunchError } from '../errors.ts';
import { weightsIdentity } from '../runtime/weights/weights-identity.ts';
import { buildAll, triedAgain } from './build-all.ts';
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
  /** So long after the start [ms] no build begins, and no group of variants that would end later, by what the one before it took. With a budget
   *  variants are built when their turn comes to be timed. */
  readonly budget: number | null;
  /** What is right. Asked for when something is to be verified: it may take long to compute. */
  readonly goldenOf: () => Promise<ContestInput['golden']>;
}

export type Why = Extract<JournalRecord, { kind: 'done' }>['why'];

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
  const weights = weightsOf(input);
  const begin = (device: string | null, compiler: string | null) =>
    journal.append({
      ...{ kind: 'run', date: new Date().toISOString(), device, cpu: cpuName(), machine: { ...machine() } },
      ...(weights !== null && { weights }),
      ...(compiler !== null && { compiler }),
    });
  // What is only timed may have been built elsewhere.
  const compiler = input.mode === 'measure' ? null : compilersHere(input.checked.target.kind);
  refuseStrangers(candidates, journal);
  refuseOtherWeights(journal, weights);
  refuseOtherCompiler(journal, compiler);
  const known = new Set(journal.records.flatMap((one) => (one.kind === 'variant' ? [one.id] : [])));
  begin(null, compiler);
  for (const { record } of candidates) if (!known.has(record.id)) journal.append(record);
  const left = () => (input.budget === null ? Number.POSITIVE_INFINITY : input.budget - millis());
  const mayBegin = () => left() > 0;
  const ready = new Set<string>();
  const make = async (wanted: readonly Candidate[]) => {
    const all = await buildAll(wanted, journal, { ...input, before: input.mode === 'measure', mayBegin });
    for (const { record } of wanted) ready.add(record.id);
    return all;
  };
  const most = input.jobs ?? availableParallelism();
  const makeReady = async (ids: readonly string[]) => {
    const missing = candidates.filter(({ record }) => !ready.has(record.id));
    const own = missing.filter(({ record }) => ids.includes(record.id));
    if (own.length === 0) return false;
    const others = missing.filter((one) => !own.includes(one) && one.record.pruned === null);
    await make([...own, ...others.slice(0, Math.max(0, most - own.length))]);
    return true;
  };
  const builds = input.mode === 'build';
  const isBuilt = await make(builds || input.budget === null ? candidates : candidates.slice(0, 1));
  refuseBrokenBase(candidates[0]!, journal);
  const timing = { ...input, begin, millis, left, makeReady };
  const why = !builds ? await time(candidates, strategy, journal, timing) : isBuilt ? 'built' : 'budget';
  journal.append({ kind: 'done', why, seconds: Math.round(millis()) / 1000, machine: { ...machine() } });
  return why;
}

interface TimeInput extends ExploreInput {
  /** Tells the journal on what is timed from now on. */
  readonly begin: (device: string, compiler: string) => void;
  /** Since the start. */
  readonly millis: () => number;
  /** Of the budget [ms]. */
  readonly left: () => number;
  /** Builds what is not built of these variants, and others beside them while compilers would be idle. @returns whether there was any */
  readonly makeReady: (ids: readonly string[]) => Promise<boolean>;
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
  if (input.left() <= 0) return 'budget';
  const golden = await input.goldenOf();
  const base = await enter(candidates[0]!, journal, { ...input, golden });
  if (!base) {
    refuseBrokenBase(candidates[0]!, journal);
    throw new OnelaunchError('failed', `the incumbent ${candidates[0]!.record.label} cannot be timed`);
  }
  try {
    refuseOtherDevice(journal, base.engine.device);
    refuseOtherCompiler(journal, base.compiler);
    input.begin(base.engine.device, base.compiler);
    /** Of a reply in the group before, with its share of what else a group takes. */
    let replyMillis = 0;
    let number = 0;
    for (;;) {
      const whole = next();
      if (whole === null) return 'timed';
      const group = input.budget === null ? whole : fitting(whole, input.left(), replyMillis);
      if (group === null) return 'budget';
      // Some may be refused now, and there is less time.
      if (await input.makeReady(group.ids)) continue;
      const begun = input.millis();
      const open: Contestant[] = [];
      try {
        for (const id of group.ids) {
          const candidate = candidates.find(({ record }) => record.id === id)!;
          const one = await enter(candidate, journal, { ...input, golden });
          if (one) open.push(one);
        }
        if (open.length > 0) await timeGroup([base, ...open], group, number++, journal, { ...input, golden });
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

/** Those of a group that are expected to be timed in the time that is left [ms]; one, while there is any, where nothing is known of a reply.
 *  Null: none. */
export function fitting(group: Group, left: number, replyMillis: number): Group | null {
  const most = replyMillis > 0 ? Math.floor(left / (group.rounds * replyMillis)) - 1 : 1;
  return left > 0 && most > 0 ? { ...group, ids: group.ids.slice(0, most) } : null;
}

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
      hint:
        one.kind === 'built' && one.killed
          ? `end other programs, or give --jobs 1; ${triedAgain}`
          : 'see gen verify; another incumbent is chosen with --plan',
    });
  }
}

/** @throws OnelaunchError usage for a variant that is made no more: the generator, or a file of the target, is another than it was */
function refuseStrangers(candidates: readonly Candidate[], journal: Journal): void {
  const ids = new Set(candidates.map(({ record }) => record.id));
  const stranger = journal.records.find((one) => one.kind === 'variant' && !ids.has(one.id));
  if (stranger?.kind !== 'variant') return;
  const text = `${journal.path} has ${stranger.label} as the kernel ${stranger.id}, which no variant is today`;
  throw new OnelaunchError('usage', text, {
    hint: 'the generator or the target is another than it was: give another --journal',
  });
}

/** What tells a checkpoint from another of its name; null for random weights, and where nothing is verified or timed. */
function weightsOf({ mode, randomWeights, checked: { files } }: ExploreInput): string | null {
  if (mode === 'build' || randomWeights || !files.tensors) return null;
  return weightsIdentity(files.tensors).slice(0, 12);
}

/** @throws OnelaunchError usage where variants were verified with another checkpoint: of this one nothing is known, and its tokens are others */
function refuseOtherWeights(journal: Journal, weights: string | null): void {
  const isOther = (one: JournalRecord) =>
    one.kind === 'run' && one.weights !== undefined && one.weights !== weights;
  if (weights === null || !journal.records.some(isOther)) return;
  throw new OnelaunchError('usage', `${journal.path} is of other weights than the model has`, {
    hint: 'a finetuned model of the same name is another one: give another --journal',
  });
}

/** @throws OnelaunchError usage where variants were built by other compilers: theirs are other kernels, which were not verified */
function refuseOtherCompiler(journal: Journal, compiler: string | null): void {
  const before = journal.records.find(
    (one) => one.kind === 'run' && one.compiler !== undefined && one.compiler !== compiler,
  );
  if (compiler === null || before?.kind !== 'run') return;
  const text = `${journal.path} is of kernels by ${before.compiler}, and these are by ${compiler}`;
  throw new OnelaunchError('usage', text, {
    hint: 'give another --journal, or name the compilers that it was begun with: CXX, NVCC',
  });
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
