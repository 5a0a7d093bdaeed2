// Syncs are derived, never written: the fewest cuts between stages (grid) and between phases (block) such that every hazard has one on its way.
import type { Graph, Op, TensorName } from '../model/graph.ts';
import type { FusionPlan } from '../plan/plan.ts';
import { type Hazard, stagesFor } from './hazards.ts';

interface CommonSync {
  /** The stage after which all wait (grid), the phase of a stage after which the threads of a block do (block; -1: its end), the stage that publishes (exchange). */
  readonly after: { readonly stage: string; readonly phase: number };
  /** Why, in one line: the hazard that needs it soonest. */
  readonly reason: string;
  /** How many hazards it orders. */
  readonly covers: number;
}

/** All blocks meet, or the threads of a block do. */
export interface Meeting extends CommonSync {
  readonly scope: 'grid' | 'block';
}

/** Readers of tensors wait for the words that they need. */
export interface ExchangeSync extends CommonSync {
  readonly scope: 'exchange';
  /** What carries them, as the generated code calls it: tensors of one maker that the same stages read travel together. */
  readonly words: string;
  readonly tensors: readonly TensorName[];
  /** The stages that read it. */
  readonly readers: readonly string[];
}

/**
 * What every block appends to the cache is there for the copy engines of all: blocks wait for their own before they publish in stage
 * `guard`, and know of all others' behind stage `after`, which reads what `guard` publishes.
 */
export interface CacheSync extends CommonSync {
  readonly scope: 'cache';
  readonly guard: string;
}

export type Sync = Meeting | ExchangeSync | CacheSync;

/** A hazard as an interval of steps: some cut after a step in [from, to) must order it. */
export interface Span {
  readonly from: number;
  readonly to: number;
  readonly why: string;
}

/**
 * Greedy interval cover: spans by their end; a new cut, as late as possible, only where none helps yet.
 * `identity(step)` names the place in the program: one cut there acts at every step with that name.
 */
export function coverSpans(spans: readonly Span[], identity: (step: number) => string): Map<string, Span[]> {
  const cuts = new Map<string, Span[]>();
  for (const span of [...spans].sort((a, b) => a.to - b.to || b.from - a.from)) {
    let covered = false;
    for (let step = span.to - 1; step >= span.from && !covered; step--) {
      const cut = cuts.get(identity(step));
      if (cut) {
        cut.push(span);
        covered = true;
      }
    }
    if (!covered) cuts.set(identity(span.to - 1), [span]);
  }
  return cuts;
}

/** Stage names in the order of a pass, with two layers, so that what one layer leaves for the next is seen. */
export function stageWalk(
  graph: Graph,
  plan: FusionPlan,
): { stage: string; part: Op['part']; trip: number }[] {
  const partOf = new Map(graph.ops.map((op) => [op.name, op.part]));
  const stages = stagesFor(graph, plan).map((stage) => ({
    stage: stage.name,
    part: partOf.get(stage.ops[0]!)!,
  }));
  const of = (part: Op['part'], trip: number) =>
    stages.filter((s) => s.part === part).map((s) => ({ ...s, trip }));
  return [...of('begin', 0), ...of('layer', 0), ...of('layer', 1), ...of('end', 1)];
}

/** The grid barriers of a plan: after which stages, and why. */
export function placeGridSyncs(graph: Graph, plan: FusionPlan, hazards: readonly Hazard[]): Meeting[] {
  const walk = stageWalk(graph, plan);
  const at = (stage: string, trip: number) => walk.findIndex((s) => s.stage === stage && s.trip === trip);
  const spans = hazards
    .filter((hazard) => hazard.scope === 'grid')
    .map((hazard): Span => {
      const [from, to] = tripsOf(hazard, (stage) => walk.find((s) => s.stage === stage)!.part);
      return { from: at(hazard.from.stage, from), to: at(hazard.to.stage, to), why: hazard.why };
    });
  const cuts = coverSpans(spans, (step) => walk[step]!.stage);
  return [...cuts].map(([stage, covered]) => ({
    scope: 'grid',
    after: { stage, phase: -1 },
    reason: soonest(covered),
    covers: covered.length,
  }));
}

/** In which of the two walked layers a hazard's ends lie, as close to each other as they come. */
export function tripsOf(hazard: Hazard, partOf: (stage: string) => Op['part']): [number, number] {
  const from = partOf(hazard.from.stage);
  const to = partOf(hazard.to.stage);
  if (from === 'begin') return [0, to === 'end' ? 1 : 0];
  if (to === 'end') return [1, 1];
  return [0, hazard.distance];
}

export function soonest(covered: readonly Span[]): string {
  return covered.reduce((a, b) => (b.to - b.from < a.to - a.from ? b : a)).why;
}
