// An experiment on the command line: model and incumbent, variants, journal, live progress, and how to go on after Ctrl-C.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { packageVersion } from '../codegen/build/package-root.ts';
import type { ModelDims } from '../codegen/model/dims.ts';
import type { CacheName, WeightName } from '../codegen/model/formats.ts';
import type { FusionPlan } from '../codegen/plan/plan.ts';
import { platformOf, type Target } from '../codegen/schedule/target.ts';
import { OnelaunchError } from '../errors.ts';
import type { Candidate, Dropped } from '../lab/enumerate.ts';
import type { Why } from '../lab/explore.ts';
import { type Finding, isAlive } from '../lab/findings.ts';
import { journalFormat } from '../lab/journal-format.ts';
import type { JournalHeader } from '../lab/journal-records.ts';
import { usualPositions } from '../lab/measure.ts';
import type { Strategy } from '../lab/strategy.ts';
import type { CheckedModel } from '../preflight.ts';
import { computeGolden } from './compute-golden.ts';
import type { WorkFlags } from './experiment-flags.ts';
import { modeOf } from './experiment-flags.ts';
import { needWritable } from './output-file.ts';
import { engineOptions } from './reply.ts';
import { counted, seconds, type Ui } from './ui.ts';

/** The flags of the command line. */
export interface ExperimentFlags extends WorkFlags {
  readonly target?: string | undefined;
  readonly plan?: string | undefined;
  readonly weights?: WeightName | undefined;
  readonly cache?: CacheName | undefined;
  readonly context?: number | undefined;
  readonly threads?: number | undefined;
  readonly device?: number | undefined;
  readonly positions?: readonly number[] | undefined;
  readonly tokens: number;
  readonly rounds: number;
  readonly together: number;
  readonly journal?: string | undefined;
  /** Nothing is built or timed. */
  readonly explain?: true | undefined;
}

export interface Prepared {
  readonly checked: CheckedModel;
  readonly base: FusionPlan;
  readonly positions: readonly number[];
  readonly own: Pick<JournalHeader, 'ownTarget'>;
  /** When this began: what a budget counts from [ms, as performance.now() tells]. */
  readonly begun: number;
}

/** Model, machine and incumbent, checked before anything is printed or compiled. @param plan the incumbent, or its name */
export async function prepare(
  ui: Ui,
  model: string,
  flags: ExperimentFlags,
  plan: string | FusionPlan | undefined = flags.plan,
): Promise<Prepared> {
  const begun = performance.now();
  const mode = modeOf(flags);
  needWritable('journal', flags.journal, 'mine.jsonl');
  const isTimed = mode !== 'build' && !flags.explain;
  const { preflight } = await import('../preflight.ts');
  const { tellThreads } = await import('../codegen/build/can-run.ts');
  const { storedGolden } = await import('../lab/truth.ts');
  let positions: readonly number[] = [];
  const checked = await preflight(
    { model, target: flags.target, plan, weights: flags.weights, cache: flags.cache },
    {
      weights: isTimed && !flags.randomWeights,
      run: isTimed ? engineOptions(flags) : undefined,
      also: async ({ dims, directory, functions }) => {
        positions = positionsOf(dims, flags);
        await storedGolden(dims, directory, functions, flags.golden);
      },
    },
  );
  // Of what runs here preflight says it.
  const idle = isTimed ? [] : tellThreads(checked.target, flags.threads, flags.target);
  for (const note of [...checked.notes, ...idle]) ui.warn(note);
  if (checked.planReason) ui.note(`incumbent ${checked.plan.name}: ${checked.planReason}`);
  return { checked, base: checked.plan, positions, own: await ownTargetOf(checked.target), begun };
}

/** Default positions move into a shorter context; those that were asked for must fit. */
function positionsOf(
  { maxPositions }: ModelDims,
  { positions, context, tokens }: ExperimentFlags,
): readonly number[] {
  const room = context ?? maxPositions;
  const most = room - tokens - 1;
  const asked = [...new Set(positions ?? usualPositions(most))].sort((a, b) => a - b);
  const needed = asked.at(-1)! + tokens + 1;
  if (needed <= room && asked[0]! >= 1) return asked;
  throw new OnelaunchError(
    'usage',
    `${Math.max(needed, tokens + 2)} positions are needed, the context holds ${room}`,
    {
      hint: 'ask for smaller --positions or --tokens',
    },
  );
}

/** What makes an experiment that one, in the words of its journal. */
export function headerOf(
  { checked: { dims, target }, base, positions, own: ownTarget }: Prepared,
  id: string,
  flags: ExperimentFlags,
  own: Pick<JournalHeader, 'command' | 'vary' | 'strategy' | 'samples' | 'seed' | 'prune' | 'shard'>,
): JournalHeader {
  return {
    ...{
      kind: 'journal',
      format: journalFormat,
      version: packageVersion(),
      command: own.command,
      model: dims.name,
    },
    weights: flags.randomWeights ? 'random, seed 0' : 'checkpoint',
    ...goldenOf(flags),
    ...formatsOf(flags),
    target: target.name,
    ...ownTarget,
    ...(flags.threads === undefined ? {} : { threads: flags.threads }),
    ...pollCyclesFor(target),
    ...{ plan: base.name, base: id, vary: own.vary, strategy: own.strategy, samples: own.samples },
    ...{ seed: own.seed, prune: own.prune, positions: [...positions], tokens: flags.tokens },
    ...{ rounds: flags.rounds, shard: own.shard },
  };
}

/** As a journal has it: a file of the same figures is the same target, whatever the order in it. */
async function ownTargetOf(target: Target): Promise<Prepared['own']> {
  const { unlisted } = await import('../configs/resolve.ts');
  const { targetText } = await import('../configs/target-file.ts');
  const own = unlisted(target);
  return own === undefined ? {} : { ownTarget: JSON.parse(targetText(own)) };
}

/** A target that streams polls; others do not read it. */
function pollCyclesFor(target: Target): Pick<JournalHeader, 'pollCycles'> {
  const pollCycles = process.env['ONELAUNCH_POLL_CYCLES'];
  return pollCycles === undefined || !platformOf(target).streams ? {} : { pollCycles };
}

const formatsOf = ({ weights, cache }: ExperimentFlags): Pick<JournalHeader, 'formats'> =>
  weights === undefined && cache === undefined ? {} : { formats: { weights, cache } };

const goldenOf = ({ golden }: ExperimentFlags): Pick<JournalHeader, 'golden'> =>
  golden === undefined
    ? {}
    : { golden: createHash('sha256').update(readFileSync(golden)).digest('hex').slice(0, 12) };

/** A name that only this experiment has. */
export function journalName(header: JournalHeader): string {
  const hash = createHash('sha256').update(JSON.stringify(header)).digest('hex').slice(0, 6);
  const shard = header.shard === null ? '' : `-shard-${header.shard.replace('/', '-of-')}`;
  return `${header.command}-${header.model}-${header.target}-${hash}${shard}.jsonl`.replaceAll(
    /[^\w.-]/g,
    '-',
  );
}

export const noVariant = ({ base, checked }: Prepared): OnelaunchError =>
  new OnelaunchError('usage', `no variant of ${base.name} is another kernel on ${checked.target.name}`, {
    hint: 'gen explain shows stages, ops and options of the plan: vary others with --vary',
  });

/** How many combinations fell away, and for what; and which are less than they ask for. */
export function noteDropped(ui: Ui, { illegal, pointless, alike, cut }: Dropped): void {
  for (const [rule, { count, why }] of illegal) ui.note(`illegal, ${rule}: ${count}, the first since ${why}`);
  if (pointless > 0) ui.note(`${pointless} with an option that their scheme does not have`);
  if (alike > 0) ui.note(`${alike} print the sources of another`);
  for (const [what, { count, first }] of cut)
    ui.note(`cut to what fits, ${what}: ${count}, the first ${first}`);
}

/** Does what is left of an experiment. @returns its findings, the incumbent first */
export async function runExperiment(
  ui: Ui,
  prepared: Prepared,
  candidates: readonly Candidate[],
  header: JournalHeader,
  flags: ExperimentFlags,
  strategy: Strategy,
): Promise<readonly Finding[]> {
  const { openJournal } = await import('../lab/journal.ts');
  const { explore } = await import('../lab/explore.ts');
  const { findingsOf } = await import('../lab/findings.ts');
  const { contextFor } = await import('../lab/truth.ts');
  const { checked, base, positions } = prepared;
  const elapsed = () => performance.now() - prepared.begun;
  const path = flags.journal ?? journalName(header);
  const journal = await openJournal(path, header, modeOf(flags) !== 'measure');
  warnOfLoad(ui, checked.target.kind);
  ui.note(`journal: ${path}${journal.records.length > 0 ? ', begun before' : ''}`);
  const progress = ui.progress(header.command === 'explore' ? 'exploring' : 'ablating');
  try {
    const golden = modeOf(flags) === 'build' ? null : await stored(prepared, flags);
    const needed = Math.max(positions.at(-1)! + header.tokens + 1, flags.context ?? 0);
    const why = await explore({ candidates, strategy }, journal, {
      ...{
        checked,
        header,
        mode: modeOf(flags),
        jobs: flags.jobs,
        budget: flags.budget === undefined ? null : flags.budget - elapsed(),
      },
      ...{ threads: flags.threads, device: flags.device, randomWeights: flags.randomWeights ?? false },
      // Cases of the golden logits may be longer than what is timed.
      context: golden
        ? Math.max(needed, contextFor(golden, checked.dims, undefined))
        : Math.min(checked.dims.maxPositions, Math.max(needed, 256)),
      signal: ui.io.signal,
      goldenOf: async () =>
        golden ?? (await computeGolden(ui, checked.directory!, checked.dims, base.functions)),
      onProgress: progress.update,
      onLine: (line) => progress.log(line),
    });
    const findings = findingsOf(journal.records, positions);
    progress.end(endText(why, findings, `after ${seconds(elapsed())}`));
    return findings;
  } catch (error) {
    progress.end();
    if (ui.io.signal.aborted) ui.note(`what was found is in ${path}: the same command goes on from there`);
    throw error;
  } finally {
    journal.close();
  }
}

/** No variant computes something else, or not always the same. */
export const isAllRight = (findings: readonly Finding[]): boolean =>
  findings.every(({ state }) => state !== 'wrong' && state !== 'unrepeatable');

/** On a CPU others take time from what is timed. */
function warnOfLoad(ui: Ui, kind: CheckedModel['target']['kind']): void {
  const [load] = loadavg();
  const cores = availableParallelism();
  if (kind !== 'cpu' || load! < cores / 2) return;
  ui.warn(`the load of this machine is ${load!.toFixed(1)} on ${cores} CPUs: intervals will be wide`);
}

function endText(why: Why, findings: readonly Finding[], when: string): string {
  if (why === 'timed') return findings.length > 1 ? `all is timed ${when}` : 'there is nothing to time';
  if (why === 'built') return `all is built ${when}: time it with --measure-only`;
  const variants = findings.slice(1).filter(isAlive);
  const timed = variants.filter(({ state }) => state === 'timed').length;
  const built = findings.filter((finding) => isAlive(finding) && finding.built !== null).length;
  const done =
    timed > 0
      ? `${timed} of ${counted(variants.length, 'variant')} timed`
      : `nothing timed, ${built} of ${counted(variants.length + 1, 'kernel')} built`;
  return `the budget is used up ${when}, ${done}: the same command goes on`;
}

async function stored({ checked: { dims, directory }, base }: Prepared, { golden }: ExperimentFlags) {
  const { storedGolden } = await import('../lab/truth.ts');
  return storedGolden(dims, directory, base.functions, golden);
}
