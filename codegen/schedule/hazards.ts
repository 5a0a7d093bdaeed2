// Which accesses must be ordered, and by the smallest sync of what scope.
import {
  type Access,
  type Extent,
  type Graph,
  type Op,
  type OpName,
  type TensorName,
  width,
} from '../model/graph.ts';
import { sizeOf } from '../model/ops.ts';
import type { FusionPlan, Stage } from '../plan/plan.ts';

/** none: one thread does both; block: threads of one block; grid: different blocks. */
export type Scope = 'none' | 'block' | 'grid';

export interface Hazard {
  readonly kind: 'RAW' | 'WAR' | 'WAW';
  readonly tensor: TensorName;
  readonly from: { readonly stage: string; readonly op: OpName };
  readonly to: { readonly stage: string; readonly op: OpName };
  /** 1: `to` runs one layer later than `from`. */
  readonly distance: 0 | 1;
  readonly scope: Scope;
  readonly why: string;
}

/** The widest extent that one unit of a stage owns alone. */
export function ownedExtent(stage: Pick<Stage, 'over' | 'split'>): Extent {
  switch (stage.over) {
    case 'rows':
      return 'row';
    case 'q_heads':
      return stage.split === 'positions' ? 'slice' : 'qHead';
    case 'kv_heads':
      return stage.split === 'positions' ? 'slice' : 'kvHead';
    case 'tokens':
      return 'token';
    case 'once':
      return 'all';
    default:
      return stage.over satisfies never;
  }
}

/** The plan's stages with only the ops that this model has; stages left empty are gone. */
export function stagesFor(graph: Graph, plan: FusionPlan): Stage[] {
  const has = new Set(graph.ops.map((op) => op.name));
  return plan.stages
    .map((stage) => ({ ...stage, ops: stage.ops.filter((op) => has.has(op)) }))
    .filter((stage) => stage.ops.length > 0);
}

interface Place {
  readonly stage: Stage;
  readonly op: Op;
  readonly trip: number;
}

/** Tensors whose rows a stage deals, or none: two stages over rows have one partition only if they deal the same number. */
function rowTensor(graph: Graph, stage: Stage): string {
  if (stage.over !== 'rows') return '';
  const last = graph.ops.find(
    (op) => op.name === stage.ops.findLast((name) => !stage.recompute.includes(name)),
  );
  return last?.writes.map((w) => rowSpace(w.tensor)).join() ?? '';
}

/** Tensors whose rows have one partition, because they are equally long. */
const rowSpace = (tensor: TensorName): string => sizeOf(tensor) ?? tensor;

const unique = (text: string): string => [...new Set(text.split(','))].join();

/** Two stages of one partition give the same unit to the same block. */
function partitionOf(graph: Graph, stage: Stage): string {
  return `${stage.over} ${stage.split} ${unique(rowTensor(graph, stage))}`;
}

/** The smallest scope that orders access `x` of `from` before access `y` of `to`, and why it must be that wide. */
export function scopeOf(
  graph: Graph,
  from: { readonly stage: Stage; readonly op: Op; readonly access: Access },
  to: { readonly stage: Stage; readonly op: Op; readonly access: Access },
  sameTrip: boolean,
): { scope: Scope; why: string } {
  const { stage, op, access } = from;
  const here = sameTrip && stage === to.stage;
  const fromRecomputed = stage.recompute.includes(op.name);
  const toRecomputed = to.stage.recompute.includes(to.op.name);
  if (here && fromRecomputed && op.writes.includes(access)) {
    return { scope: 'block', why: `${to.op.name} reads what all threads of the block made in ${op.name}` };
  }
  const owned = width[ownedExtent(stage)];
  const samePartition = partitionOf(graph, stage) === partitionOf(graph, to.stage);
  const own = width[access.extent] <= owned && width[to.access.extent] <= owned;
  if (samePartition && own && !fromRecomputed && !toRecomputed) {
    const oneThread = here && stage.over === 'rows';
    if (oneThread) return { scope: 'none', why: 'one thread makes and uses the row' };
    return {
      scope: 'block',
      why: `${to.op.name} uses what other threads of its block touched in ${op.name}`,
    };
  }
  return { scope: 'grid', why: gridReason(from, to) };
}

function gridReason(
  from: { readonly stage: Stage; readonly op: Op; readonly access: Access },
  to: { readonly op: Op; readonly access: Access },
): string {
  const names: Record<Extent, string> = {
    row: 'rows',
    slice: 'a split',
    qHead: 'whole q heads',
    kvHead: 'whole kv heads',
    token: 'whole tokens',
    all: 'all',
  };
  const verb = from.op.writes.includes(from.access) ? 'makes' : 'reads';
  const needs = to.op.writes.includes(to.access) ? 'overwrites' : 'needs';
  return `${to.op.name} ${needs} ${names[to.access.extent]} of ${to.access.tensor}, which ${from.op.name} ${verb} in other blocks`;
}

/**
 * Every ordered pair of accesses to one tensor of which one is a write. The layer is walked twice, so that what one layer
 * leaves for the next counts; passes are separate launches and need no sync between them.
 */
export function findHazards(graph: Graph, plan: FusionPlan): Hazard[] {
  const stages = stagesFor(graph, plan);
  const opOf = new Map(graph.ops.map((op) => [op.name, op]));
  const places = (part: Op['part'], trip: number): Place[] =>
    stages.flatMap((stage) =>
      stage.ops.map((name) => ({ stage, op: opOf.get(name)!, trip })).filter(({ op }) => op.part === part),
    );
  const walk = [...places('begin', 0), ...places('layer', 0), ...places('layer', 1), ...places('end', 1)];
  const found = new Map<string, Hazard>();
  for (const [j, to] of walk.entries()) {
    for (const from of walk.slice(0, j)) {
      for (const [kind, xs, ys] of pairs(from.op, to.op)) {
        for (const x of xs) {
          for (const y of ys) {
            if (x.tensor !== y.tensor) continue;
            if (x.tensor === 'cache' && from.trip !== to.trip) continue; // every layer has its own
            if (isLocal(graph, stages, x.tensor) && (from.stage !== to.stage || from.trip !== to.trip))
              continue;
            const distance =
              to.op.part === 'layer' && from.op.part === 'layer' && to.trip > from.trip ? 1 : 0;
            const key = [
              kind,
              x.tensor,
              from.stage.name,
              from.op.name,
              to.stage.name,
              to.op.name,
              distance,
            ].join();
            if (found.has(key)) continue;
            const { scope, why } = scopeOf(
              graph,
              { ...from, access: x },
              { ...to, access: y },
              from.trip === to.trip,
            );
            found.set(key, {
              kind,
              tensor: x.tensor,
              from: { stage: from.stage.name, op: from.op.name },
              to: { stage: to.stage.name, op: to.op.name },
              distance,
              scope,
              why,
            });
          }
        }
      }
    }
  }
  return [...found.values()];
}

function pairs(
  from: Op,
  to: Op,
): readonly (readonly [Hazard['kind'], readonly Access[], readonly Access[]])[] {
  return [
    ['RAW', from.writes, to.reads],
    ['WAR', from.reads, to.writes],
    ['WAW', from.writes, to.writes],
  ];
}

/** Tensors that outlive a stage, or (`partial`) that the kernel library keeps in global memory. */
const alwaysGlobal: readonly TensorName[] = ['x', 'q', 'k', 'v', 'cache', 'partial', 'logits', 'next'];

/** True for a tensor that only one stage touches, so that it lives in the block's scratch or in registers. */
export function isLocal(graph: Graph, stages: readonly Stage[], tensor: TensorName): boolean {
  if (alwaysGlobal.includes(tensor)) return false;
  const touching = stages.filter((stage) =>
    graph.ops.some(
      (op) => stage.ops.includes(op.name) && [...op.reads, ...op.writes].some((a) => a.tensor === tensor),
    ),
  );
  return touching.length <= 1;
}
