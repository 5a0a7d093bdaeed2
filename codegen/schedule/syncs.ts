// Syncs are derived, never written: the fewest cuts between stages (grid) and between phases (block) such that every hazard has one on its way.
import type { Graph, Op, OpName, TensorName } from '../model/graph.ts';
import type { FusionPlan } from '../plan/plan.ts';
import { type Hazard, stagesFor } from './hazards.ts';

export interface Sync {
  /** grid: all blocks meet. block: the threads of a block meet. exchange: readers of a tensor wait for the words they need. */
  readonly scope: 'grid' | 'block' | 'exchange';
  /** The stage after which (grid), or the phase of a stage after which (block), all wait; the stage that publishes (exchange). */
  readonly after: { readonly stage: string; readonly phase: number };
  /** What an exchange carries, and the stages that read it. */
  readonly tensors?: readonly TensorName[];
  readonly readers?: readonly string[];
  /** Why, in one line: the hazard that needs it soonest. */
  readonly reason: string;
  /** How many hazards it orders. */
  readonly covers: number;
}

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
function stageWalk(graph: Graph, plan: FusionPlan): { stage: string; part: Op['part']; trip: number }[] {
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
export function placeGridSyncs(graph: Graph, plan: FusionPlan, hazards: readonly Hazard[]): Sync[] {
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

/**
 * The exchanges of a plan: one for each stage that makes something which other blocks read. What is overwritten needs no sync of its own:
 * `uncovered` checks that words are used again only when all their readers have gone on. Positions in the cache are read from the next pass
 * on, when all of that layer has crossed blocks. The token comes last: every block reads its embedding itself.
 */
export function placeExchanges(
  graph: Graph,
  plan: FusionPlan,
  hazards: readonly Hazard[],
  splits: number,
): Sync[] {
  const walk = stageWalk(graph, plan);
  const partOf = (stage: string) => walk.find((s) => s.stage === stage)!.part;
  const makes = (stage: string, tensor: TensorName) =>
    hazards.some((h) => h.kind === 'RAW' && h.from.stage === stage && h.tensor === tensor);
  const isLatest = (hazard: Hazard): boolean => {
    const [from, to] = tripsOf(hazard, partOf);
    const at = (stage: string, trip: number) => walk.findIndex((s) => s.stage === stage && s.trip === trip);
    const between = walk.slice(at(hazard.from.stage, from) + 1, at(hazard.to.stage, to));
    return !between.some(({ stage }) => makes(stage, hazard.tensor));
  };
  const carried = hazards.filter(
    (h) =>
      h.kind === 'RAW' &&
      h.scope === 'grid' &&
      h.from.op !== 'embed' &&
      (splits > 1 || h.tensor !== 'partial') && // one block has all positions of a head
      isLatest(h),
  );
  const makers = [...new Set(carried.map((hazard) => hazard.from.stage))];
  const exchanges = makers.map((stage): Sync => {
    const made = carried.filter((hazard) => hazard.from.stage === stage);
    return {
      scope: 'exchange',
      after: { stage, phase: -1 },
      tensors: [...new Set(made.map((hazard) => hazard.tensor))],
      readers: [...new Set(made.map((hazard) => hazard.to.stage))],
      reason: made[0]!.why,
      covers: made.length,
    };
  });
  const stageOf = (op: OpName) => plan.stages.find((stage) => stage.ops.includes(op))!.name;
  const token: Sync = {
    scope: 'exchange',
    after: { stage: stageOf('sample'), phase: -1 },
    tensors: ['next'],
    readers: [stageOf('embed')],
    reason: 'embed of the next pass needs next, which sample makes elsewhere',
    covers: 1,
  };
  return [...exchanges, token];
}

/** In which of the two walked layers a hazard's ends lie, as close to each other as they come. */
function tripsOf(hazard: Hazard, partOf: (stage: string) => Op['part']): [number, number] {
  const from = partOf(hazard.from.stage);
  const to = partOf(hazard.to.stage);
  if (from === 'begin') return [0, to === 'end' ? 1 : 0];
  if (to === 'end') return [1, 1];
  return [0, hazard.distance];
}

export function soonest(covered: readonly Span[]): string {
  return covered.reduce((a, b) => (b.to - b.from < a.to - a.from ? b : a)).why;
}
