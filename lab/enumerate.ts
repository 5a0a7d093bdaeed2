// Variants that are worth a build: the legal ones, those of equal sources as one, each with what is predicted of it.
import { type Cost, estimate, generate, type ModelDims, type Schedule } from '../codegen/index.ts';
import { decoderGraph } from '../codegen/model/graph.ts';
import { nowhere } from '../codegen/plan/call-site.ts';
import { firstIssue } from '../codegen/plan/check.ts';
import type { FusionPlan } from '../codegen/plan/plan.ts';
import type { Target } from '../codegen/schedule/target.ts';
import { breathe } from './breathe.ts';
import type { VariantRecord } from './journal-records.ts';
import { shuffled } from './random.ts';
import { type Choice, combination, type Impossible, sizeOf, type Variant, variantOf } from './space.ts';

/** A variant whose sources are those of no other. */
export interface Candidate {
  readonly plan: FusionPlan;
  readonly record: VariantRecord;
}

/** What was left out, and why. */
export interface Dropped {
  /** Rule -> how many it refuses, and what it says of the first. */
  readonly illegal: ReadonlyMap<string, { readonly count: number; readonly why: string }>;
  /** Combinations of options that no scheme has together. */
  readonly pointless: number;
  /** Those that print the sources of another. */
  readonly alike: number;
  /** Such as `12 of 40 slots`, no more of which fit -> how many ask for that, and the first. They stay, or are alike. */
  readonly cut: ReadonlyMap<string, { readonly count: number; readonly first: string }>;
}

export interface KernelInput {
  readonly dims: ModelDims;
  readonly target: Target;
  readonly base: FusionPlan;
  readonly positions: readonly number[];
}

/** The combinations of an exploration, in the order in which they are tried. @param seed null: as written, the first axis fastest */
export function* combinationsOf(
  axes: readonly (readonly Choice[])[],
  base: FusionPlan,
  seed: number | null,
): Generator<Variant | Impossible | null> {
  const size = sizeOf(axes);
  const indices = seed === null ? Array.from({ length: size }, (_, i) => i) : shuffled(size, seed);
  for (const index of indices) yield variantOf(base, combination(axes, index));
}

/**
 * The base, and of these variants up to `most` others.
 * @param onVariant called for each that was looked at; what it throws ends the work
 */
export async function candidatesOf(
  variants: Iterable<Variant | Impossible | null>,
  input: KernelInput,
  most: number,
  onVariant: (found: number) => void = () => {},
): Promise<{ readonly candidates: readonly Candidate[]; readonly dropped: Dropped }> {
  const { dims, target, base } = input;
  const graph = decoderGraph(dims);
  const found = new Map<string, Candidate>();
  const cut = new Map<string, { count: number; first: string }>();
  const add = async ({ label, edits, plan }: Variant): Promise<boolean> => {
    const { schedule, hash } = await generate({ dims, plan, target });
    for (const what of cutOf(plan, base, schedule)) {
      const { count = 0, first = label } = cut.get(what) ?? {};
      cut.set(what, { count: count + 1, first });
    }
    const before = found.get(hash);
    if (before) {
      // Every combination that changes nothing is the base.
      if (before.record.label !== label) before.record.alike.push(label);
      return false;
    }
    const costs = input.positions.map((position) => estimate(schedule, position));
    found.set(hash, { plan, record: recordOf(hash, label, edits, plan, costs) });
    return true;
  };
  await add({ label: base.name, edits: {}, plan: base });
  const illegal = new Map<string, { count: number; why: string }>();
  let pointless = 0;
  let alike = 0;
  for (const variant of variants) {
    if (found.size > most) break;
    onVariant(found.size - 1);
    if (variant === null) {
      pointless++;
      continue;
    }
    const issue = 'issue' in variant ? variant.issue : firstIssue(graph, variant.plan, target);
    if (issue) {
      const { count = 0, why = issue.why } = illegal.get(issue.rule) ?? {};
      illegal.set(issue.rule, { count: count + 1, why });
    } else if ('plan' in variant && !(await add(variant)) && variant.plan !== base) alike++;
    // Printing keeps the process busy: Ctrl-C gets its turn.
    await breathe();
  }
  return { candidates: [...found.values()], dropped: { illegal, pointless, alike, cut } };
}

/** Numbers of a scheme that are most, and not what the base asks for, with what there is room for. */
function cutOf(plan: FusionPlan, base: FusionPlan, schedule: Schedule): string[] {
  const { passTokens: tokens, blocks } = schedule;
  const slots = schedule.scheme === 'stream' ? schedule.kernels[0]!.slots : Number.POSITIVE_INFINITY;
  const [asked, usual] = [plan, base].map(({ scheme }): Record<string, unknown> => ({ ...scheme }));
  // A CPU has a block for each thread.
  const had = schedule.target.kind === 'cpu' ? { tokens } : { tokens, blocks, slots };
  return Object.entries(had).flatMap(([option, most]) => {
    const wanted = asked![option];
    const isCut = typeof wanted === 'number' && wanted > most && wanted !== usual![option];
    return isCut ? [`${most} of ${wanted} ${option}`] : [];
  });
}

/** A plan without the places of its words, which are of this machine. */
function unplaced({ stages, ...plan }: FusionPlan): VariantRecord['plan'] {
  return { ...plan, stages: stages.map((stage) => ({ ...stage, at: nowhere })), at: nowhere };
}

function recordOf(
  id: string,
  label: string,
  edits: Variant['edits'],
  plan: FusionPlan,
  costs: readonly Cost[],
): VariantRecord {
  return {
    ...{ kind: 'variant', id, label, edits: { ...edits }, plan: unplaced(plan), alike: [], pruned: null },
    predicted: costs.map(({ tokensPerSecond }) => tokensPerSecond),
    unmeasured: [...new Set(costs.flatMap(({ unmeasured }) => unmeasured))],
  };
}
