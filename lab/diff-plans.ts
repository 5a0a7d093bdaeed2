// Two kernels of one model on one target, side by side: what their plans say, what the generator made of it, and the text that changed.
import type { Manifest } from '../abi/manifest.ts';
import { estimate, generate, type Kernel, makeSchedule, type Schedule } from '../codegen/index.ts';
import type { ModelDims } from '../codegen/model/dims.ts';
import { changed, type FusionPlan } from '../codegen/plan/plan.ts';
import { markedOps } from '../codegen/schedule/schedule.ts';
import type { Target } from '../codegen/schedule/target.ts';
import { syncName } from './simulate.ts';
import { changedLines, type Hunk, hunksOf } from './text-diff.ts';

type Value = string | number | boolean | null;

/** One thing that both have, or one of them. */
interface Pair {
  readonly name: string;
  readonly a: Value;
  readonly b: Value;
}

export interface PlanDiff {
  readonly a: string;
  readonly b: string;
  /** The generated code is the same, whatever the plans are called. */
  readonly same: boolean;
  /** What each costs, equal or not; null: not known, or not built. */
  readonly figures: readonly Pair[];
  /** Options of the scheme, and choices of the generator, that differ. */
  readonly options: readonly Pair[];
  readonly schedule: readonly Pair[];
  /** Lines with `-`, `+` or a blank before them; empty where they are the same. */
  readonly stages: readonly string[];
  readonly syncs: readonly string[];
  readonly files: readonly { readonly name: string; readonly hunks: readonly Hunk[] }[];
}

/** @param plans both legal, else PlanError, and of one kind: they decode, or take in prompts. @param positions of the predictions
 *  @param beside what decodes beside plans for prompts. @param builtOf the manifest of a kernel that was built before */
export async function diffPlans(
  plans: readonly [a: FusionPlan, b: FusionPlan],
  { dims, target }: { readonly dims: ModelDims; readonly target: Target },
  positions: readonly number[],
  beside: FusionPlan,
  builtOf: (kernel: Kernel) => Manifest | null,
): Promise<PlanDiff> {
  const [first, second] = plans;
  // An illegal plan is refused under its own name.
  for (const plan of plans) makeSchedule(dims, plan, target);
  const kernelOf = (plan: FusionPlan) => {
    const same = changed(plan, { name: label, file: null });
    if (plan.scheme.kind !== 'tiles') return generate({ dims, target, plan: same });
    // Both compute the same functions.
    const decodes = beside.with(beside.name, {}, {}, { ops: plan.functions });
    return generate({ dims, target, plan: decodes, promptPlan: same });
  };
  const [a, b] = [await kernelOf(first), await kernelOf(second)];
  const [ofA, ofB] = [comparedOf(a), comparedOf(b)];
  return {
    ...{ a: first.file ?? first.name, b: second.file ?? second.name, same: a.hash === b.hash },
    figures: pairs(figuresOf(a, positions, builtOf(a)), figuresOf(b, positions, builtOf(b))),
    options: differing(leaves(first.scheme), leaves(second.scheme)),
    schedule: differing(leaves(ownOf(ofA)), leaves(ownOf(ofB))),
    stages: changedLines(stageLines(ofA), stageLines(ofB)),
    syncs: changedLines(ofA.syncs.map(syncName), ofB.syncs.map(syncName)),
    files: changedFiles(a, b),
  };
}

/** Of a kernel with a plan for prompts, that plan's. */
const comparedOf = ({ schedule, prompts }: Kernel): Schedule => prompts?.schedule ?? schedule;

/** What both plans are called in the texts: a name is no difference. */
const label = 'plan';

type Values = ReadonlyMap<string, Value>;

function figuresOf(kernel: Kernel, positions: readonly number[], built: Manifest | null): Values {
  const schedule = comparedOf(kernel);
  const last = estimate(schedule, positions.at(-1));
  const read = last.stages.reduce(
    (sum, { weightBytes, part }) => sum + weightBytes * (part === 'layer' ? schedule.dims.layers : 1),
    0,
  );
  return new Map<string, Value>([
    ...positions.map((position): [string, Value] => [
      `predicted us at ${position}`,
      rounded(estimate(schedule, position).micros, 1),
    ]),
    [`syncs a ${last.per} at ${last.position}`, last.syncsPerToken],
    ['stages', schedule.stages.length],
    [`MB of weights a ${last.per}`, rounded(read / 1e6, 2)],
    [`tokens a ${last.per === 'launch' ? 'launch' : 'pass'}`, schedule.passTokens],
    ...(built?.build.resources ?? []).flatMap(({ name, registers, spillBytes }): [string, Value][] => [
      [`registers of ${name}`, registers],
      [`bytes spilled by ${name}`, spillBytes],
    ]),
    ['kB of the library', built ? rounded(built.libraryBytes / 1e3, 0) : null],
  ]);
}

const rounded = (value: number | null, digits: number): number | null =>
  value === null ? null : Number(value.toFixed(digits));

function stageLines({ stages }: Schedule): string[] {
  return stages.map((stage) => {
    const units = stage.units > 0 ? `, ${stage.units} unit${stage.units === 1 ? '' : 's'}` : '';
    return `${stage.name}: ${markedOps(stage).join(' ')} over ${stage.over}${stage.split ? ', positions split' : ''}${units}`;
  });
}

/** What all schedules of a model and target share, or what is told elsewhere. */
const toldElsewhere = [
  ...['dims', 'target', 'ops', 'plan', 'functions', 'stages', 'syncs', 'packing', 'slots', 'hazards'],
  // Where each tensor lies says it too.
  'buffers',
];

/** What a schedule chose beyond its stages and syncs. */
const ownOf = (schedule: Schedule): object =>
  Object.fromEntries(Object.entries(schedule).filter(([name]) => !toldElsewhere.includes(name)));

/** Every value in a tree, by its path. What holds values alone is one value; items of a list that have names go by them. */
function leaves(tree: unknown, path = ''): Values {
  if (!isTree(tree)) return new Map([[path, asValue(tree)]]);
  const entries = Object.entries(tree);
  if (path !== '' && entries.every(([, value]) => !isTree(value))) return new Map([[path, flat(tree)]]);
  const below = entries.flatMap(([key, value]) => {
    const name = isTree(value) && 'name' in value ? String(value.name) : key;
    return [...leaves(value, path === '' ? name : `${path}.${name}`)];
  });
  return new Map(below);
}

const isTree = (value: unknown): value is object => typeof value === 'object' && value !== null;

/** Values in one line: `offset 0, stride 128`, or `q, k` of a list. */
const flat = (tree: object): string =>
  Object.entries(tree)
    .map(([name, value]) => (Array.isArray(tree) ? String(value) : `${name} ${value}`))
    .join(', ');

const asValue = (leaf: unknown): Value =>
  typeof leaf === 'number' || typeof leaf === 'string' || typeof leaf === 'boolean' ? leaf : null;

function pairs(a: Values, b: Values): Pair[] {
  return [...new Set([...a.keys(), ...b.keys()])].map((name) => ({
    name,
    a: a.get(name) ?? null,
    b: b.get(name) ?? null,
  }));
}

const differing = (a: Values, b: Values): Pair[] => pairs(a, b).filter((pair) => pair.a !== pair.b);

/** Files that are not the same, but for the hash of all of them. */
function changedFiles(a: Kernel, b: Kernel): PlanDiff['files'] {
  const textOf = (kernel: Kernel, name: string) =>
    (kernel.sources[name] ?? '').replaceAll(kernel.hash, '0'.repeat(kernel.hash.length));
  return [...new Set([...Object.keys(a.sources), ...Object.keys(b.sources)])].flatMap((name) => {
    const hunks = hunksOf(textOf(a, name), textOf(b, name));
    return hunks.length > 0 ? [{ name, hunks }] : [];
  });
}
