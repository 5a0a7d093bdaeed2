// Races of a plan without a GPU: a tiny run of its schedule in many interleavings, on several machines, with or without one of its syncs.
import { makeSchedule, type Schedule, type Target } from '../codegen/index.ts';
import type { ModelDims } from '../codegen/model/dims.ts';
import { didYouMean } from '../codegen/plan/did-you-mean.ts';
import type { FusionPlan } from '../codegen/plan/plan.ts';
import type { Sync } from '../codegen/schedule/syncs.ts';
import { schemeFor, schemeOf } from '../codegen/schemes/index.ts';
import type { Fault, Tiny, TinyRun } from '../codegen/schemes/scheme.ts';
import { OnelaunchError } from '../errors.ts';
import { breathe } from './breathe.ts';

/** A fault, and the first run that showed it. */
export interface FoundFault extends Fault {
  readonly run: TinyRun;
  /** Runs that showed it. */
  readonly runs: number;
}

export interface Interleavings {
  readonly faults: readonly FoundFault[];
  /** Interleavings that were run. */
  readonly runs: number;
}

/** Which of the runs that suit a schedule. */
export interface RunChoice {
  /** The first seed, and how many from there on. */
  readonly first: number;
  readonly seeds: number;
  /** Only these, where given. */
  readonly tokens?: readonly number[] | undefined;
  readonly positions?: readonly number[] | undefined;
}

/** The model of a plan scaled down. @throws PlanError of a plan that is illegal for the model as it is */
export function tinySchedule(dims: ModelDims, plan: FusionPlan, target: Target): Tiny<Schedule> {
  makeSchedule(dims, plan, target);
  return schemeFor(plan, target).tiny(dims, plan, target);
}

/** Such as `grid after qkv`, `block after merge phase 0` or `exchange after qkv of q`: no two of a schedule are the same. */
export function syncName(sync: Sync): string {
  const phase = sync.after.phase < 0 ? '' : ` phase ${sync.after.phase}`;
  const words = sync.scope === 'exchange' ? ` of ${sync.words}` : '';
  return `${sync.scope} after ${sync.after.stage}${phase}${words}`;
}

/** The schedule without one of its syncs. @param which its name, or its number in the list, from 0 on
 *  @throws OnelaunchError usage where there is none such */
export function withoutSync(tiny: Tiny<Schedule>, which: string): Tiny<Schedule> {
  const { syncs } = tiny.schedule;
  const index = /^\d+$/.test(which) ? Number(which) : syncs.findIndex((sync) => syncName(sync) === which);
  const dropped = syncs[index];
  if (dropped === undefined) {
    const guess = didYouMean(which, syncs.map(syncName));
    throw new OnelaunchError('usage', `the schedule has no sync '${which}'`, {
      hint: `${guess}--list-syncs lists them, numbered 0 to ${syncs.length - 1}`,
    });
  }
  const less = { ...tiny.schedule, syncs: syncs.filter((sync) => sync !== dropped) };
  return { ...tiny, schedule: less as Schedule };
}

/** Runs that are made as they are asked for: a million seeds have many. */
export interface Runs extends Iterable<TinyRun> {
  readonly length: number;
}

/** The runs of a choice. @throws OnelaunchError usage where a pass of the plan cannot have so many tokens */
export function runsFor({ schedule, machines }: Tiny<Schedule>, choice: RunChoice): Runs {
  const { tokens, positions, first, seeds } = choice;
  const most = schedule.passTokens;
  const over = tokens?.find((count) => count > most);
  if (over !== undefined) {
    throw new OnelaunchError(
      'usage',
      `--pass-tokens has ${over}, and a pass of this plan has at most ${most}`,
      {
        hint: `for example: --pass-tokens ${most}`,
      },
    );
  }
  const shapes = distinct(machines.map(({ blocks, warps }) => ({ blocks, warps })));
  const alone = machines.filter(({ rows }) => !rows);
  const counts = tokens ?? distinct(alone.map((machine) => machine.tokens));
  const places = positions ?? distinct(alone.map((machine) => machine.position));
  // Passes of several sequences have counts and positions of their own.
  const batches = tokens || positions ? [] : machines.filter(({ rows }) => rows);
  const each = [
    ...shapes.flatMap((shape) =>
      counts.flatMap((count) => places.map((position) => ({ ...shape, tokens: count, position }))),
    ),
    ...batches,
  ];
  return {
    length: seeds * each.length,
    *[Symbol.iterator]() {
      for (let i = 0; i < seeds; i++) for (const one of each) yield { ...one, seed: first + i };
    },
  };
}

const distinct = <T>(values: readonly T[]): T[] => [
  ...new Map(values.map((value) => [JSON.stringify(value), value])).values(),
];

/** Runs them one after the other. @param onRun before each; what it throws ends the work */
export async function simulateAll(
  { schedule }: Tiny<Schedule>,
  runs: Runs,
  onRun: (done: number, run: TinyRun) => void,
): Promise<Interleavings> {
  const scheme = schemeOf(schedule);
  const found = new Map<string, FoundFault>();
  let done = 0;
  for (const run of runs) {
    onRun(done++, run);
    for (const fault of scheme.simulate(schedule, run)) {
      const key = `${fault.kind} ${fault.text}`;
      const before = found.get(key);
      found.set(key, before ? { ...before, runs: before.runs + 1 } : { ...fault, run, runs: 1 });
    }
    await breathe();
  }
  return { faults: [...found.values()], runs: runs.length };
}
