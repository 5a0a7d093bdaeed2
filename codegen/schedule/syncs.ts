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
  /** What they know of then: what was appended in the layer of the pass that the stage is in (0), or in that before it (1). */
  readonly layersBefore: 0 | 1;
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

/** Stages in the order of a pass, with two layers, so that what one layer leaves for the next is seen. */
export function twoLayers<S extends { readonly part: Op['part'] }>(
  stages: readonly S[],
): { readonly stage: S; readonly trip: number }[] {
  const of = (part: Op['part'], trip: number) =>
    stages.filter((stage) => stage.part === part).map((stage) => ({ stage, trip }));
  return [...of('begin', 0), ...of('layer', 0), ...of('layer', 1), ...of('end', 1)];
}

/** The stages of a plan in that order, by name, and the steps of it at which a hazard's ends lie, as close to each other as they come. */
export function walkOf(graph: Graph, plan: FusionPlan) {
  const partOf = new Map(graph.ops.map((op) => [op.name, op.part]));
  const parts = new Map(stagesFor(graph, plan).map(({ name, ops }) => [name, partOf.get(ops[0]!)!]));
  const walk = twoLayers([...parts].map(([name, part]) => ({ name, part })));
  const names = walk.map(({ stage }) => stage.name);
  const at = (name: string, trip: number) => walk.findIndex((s) => s.stage.name === name && s.trip === trip);
  const stepsOf = ({ from, to, distance }: Hazard): [from: number, to: number] => {
    const [first, last] = tripsOf(parts.get(from.stage)!, parts.get(to.stage)!, distance);
    return [at(from.stage, first), at(to.stage, last)];
  };
  return { names, stepsOf };
}

function tripsOf(from: Op['part'], to: Op['part'], distance: number): [number, number] {
  if (from === 'begin') return [0, to === 'end' ? 1 : 0];
  if (to === 'end') return [1, 1];
  return [0, distance];
}

/** The grid barriers of a plan: after which stages, and why. */
export function placeGridSyncs(graph: Graph, plan: FusionPlan, hazards: readonly Hazard[]): Meeting[] {
  const { names, stepsOf } = walkOf(graph, plan);
  const spans = hazards
    .filter((hazard) => hazard.scope === 'grid')
    .map((hazard): Span => {
      const [from, to] = stepsOf(hazard);
      return { from, to, why: hazard.why };
    });
  const cuts = coverSpans(spans, (step) => names[step]!);
  return [...cuts].map(([stage, covered]) => meetingAfter('grid', { stage, phase: -1 }, covered));
}

/** The meeting that orders some hazards; the one that needs it soonest is its reason. */
export function meetingAfter(
  scope: Meeting['scope'],
  after: Meeting['after'],
  covered: readonly Span[],
): Meeting {
  const { why } = covered.reduce((a, b) => (b.to - b.from < a.to - a.from ? b : a));
  return { scope, after, reason: why, covers: covered.length };
}
