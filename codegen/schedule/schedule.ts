// The schedule: stages cut into phases, tensors given a place, block syncs derived. Everything that templates print is decided from this.
import { invariant } from '../../errors.ts';
import type { ModelDims } from '../model/dims.ts';
import { elementsOf, type Graph, type Op, type OpName, type TensorName } from '../model/graph.ts';
import { type Packing, packWeights, padded, type Slot, slotsOf } from '../model/packing.ts';
import { columnsOf, partsFor, rowsOf } from '../model/sizes.ts';
import type { FusionPlan, Over, Stage } from '../plan/plan.ts';
import { planStream, type Stream, streamWarps } from '../schemes/stream/stream.ts';
import { findHazards, type Hazard, isLocal, stagesFor } from './hazards.ts';
import { coverSpans, placeExchanges, placeGridSyncs, type Span, type Sync, soonest } from './syncs.ts';
import { type Target, warpsPerBlock } from './target.ts';

/** Where a tensor lives. Strides are floats; `scratch` is the block's own. */
export type Placement =
  | { readonly space: 'global'; readonly buffer: string; readonly offset: number; readonly stride: number }
  | { readonly space: 'scratch'; readonly offset: number; readonly stride: number }
  | { readonly space: 'input' }
  | { readonly space: 'register' }
  | { readonly space: 'cache' };

/** An activation buffer in global memory: [passTokens][stride] floats. */
interface Buffer {
  readonly name: string;
  readonly tensors: readonly TensorName[];
  readonly stride: number;
}

/** Part of the block's scratch, in floats. */
interface Region {
  readonly lo: number;
  readonly hi: number;
}

/**
 * One step of a stage between block syncs.
 * gather, norm_input, merge_input: fill the block's copy of a matmul's input. rows: a matmul with its row-wise ops, or row-wise ops alone.
 */
type PhaseKind =
  | 'embed'
  | 'gather_input'
  | 'norm_input'
  | 'merge_input'
  | 'matmul'
  | 'pointwise'
  | 'norm'
  | 'qk_norm'
  | 'rope'
  | 'kv_append'
  | 'attend'
  | 'attn_merge'
  | 'sample';

export interface Phase {
  readonly kind: PhaseKind;
  readonly ops: readonly OpName[];
  /** Made by every block for itself. */
  readonly recomputed: boolean;
  readonly scratchReads: readonly Region[];
  readonly scratchWrites: readonly Region[];
}

export interface ScheduledStage {
  readonly name: string;
  readonly part: Op['part'];
  readonly over: Over;
  readonly split: boolean;
  /** Units dealt to blocks: rows, heads times parts, or 0 for the tokens of the pass. */
  readonly units: number;
  readonly phases: readonly Phase[];
  /** Weight bytes that one decode pass reads here, all layers of the stage counted once. */
  readonly weightBytes: number;
  readonly ops: readonly OpName[];
}

export interface Schedule {
  readonly dims: ModelDims;
  readonly target: Target;
  /** The ops of this model, as in the graph. */
  readonly ops: readonly Op[];
  /** Stages ahead that blocks prefetch; 0: none. */
  readonly plan: { readonly name: string; readonly prefetch: number };
  readonly passTokens: number;
  readonly splits: number;
  readonly warps: number;
  readonly blocks: number;
  readonly stages: readonly ScheduledStage[];
  readonly tensors: Readonly<Partial<Record<TensorName, Placement>>>;
  readonly buffers: readonly Buffer[];
  /** Scratch of a block [floats], the library's own share included. */
  readonly scratchFloats: number;
  readonly packing: Packing;
  readonly slots: readonly Slot[];
  /** How weights are streamed; null where every warp loads its own. */
  readonly stream: Stream | null;
  readonly hazards: readonly Hazard[];
  readonly syncs: readonly Sync[];
}

/** Floats that `attend` and `sample` use beside what the schedule places; the libraries check them against their own. */
export interface LibraryScratch {
  readonly attend: (dims: ModelDims, group: number, tokens: number) => number;
  readonly sample: (dims: ModelDims) => number;
  /** Shared memory of the library's own [bytes]. */
  readonly staticBytes: number;
}

const line = 32;
const alignFloats = (n: number): number => Math.ceil(n / line) * line;

/** Deals the work of a checked plan: pass size, placements, phases, syncs. */
export function assignWork(
  graph: Graph,
  written: FusionPlan,
  target: Target,
  library: LibraryScratch,
): Schedule {
  const { dims } = graph;
  const stream = streamOf(graph, written, target);
  const splits =
    stream?.splits ?? (written.stages.some((s) => s.split === 'positions') ? splitsFor(dims, target) : 1);
  const plan = splits === 1 ? withoutSplit(written) : written;
  const stages = stagesFor(graph, plan);
  const passTokens =
    stream === null
      ? passTokensFor(graph, plan, stages, target, splits, library)
      : stream.kernels.at(-1)!.tokens;
  const hazards = findHazards(graph, plan);
  const packing = packWeights(dims, stream !== null);
  const { tensors, buffers } = placeTensors(graph, stages, passTokens, splits);
  const built = stages.map((stage) => buildStage(graph, stage, tensors, passTokens, splits));
  const blockwise = (grid: readonly Sync[]) => [...grid, ...placeBlockSyncs(built, hazards, grid)];
  // The functions of the stream library order the warps of a block themselves.
  const syncs = stream
    ? placeExchanges(graph, plan, hazards, splits)
    : blockwise(placeGridSyncs(graph, plan, hazards));
  const { weights } = plan.options;
  return {
    dims,
    target,
    ops: graph.ops,
    plan: {
      name: plan.name,
      prefetch: target.kind === 'cuda' && weights.kind === 'direct' ? weights.prefetch : 0,
    },
    passTokens,
    splits,
    warps: stream ? streamWarps : target.kind === 'cuda' ? warpsPerBlock : 1,
    blocks: stream?.blocks ?? target.sms,
    stages: built,
    tensors,
    buffers,
    scratchFloats: stream ? 0 : scratchFloats(graph, stages, passTokens, splits, library),
    packing,
    slots: slotsOf(dims, packing),
    stream,
    hazards,
    syncs,
  };
}

/** The stream of a plan that has one. */
function streamOf({ dims }: Graph, plan: FusionPlan, target: Target): Stream | null {
  const { weights } = plan.options;
  if (weights.kind !== 'stream') return null;
  const stageOf = (op: OpName) => plan.stages.find((stage) => stage.ops.includes(op))!.name;
  const stream = planStream(dims, target, weights, plan.options, stageOf);
  invariant(stream !== null, 'a checked plan has a stream that fits');
  return stream;
}

/** One part of the positions is no split: stages that differ in nothing else then deal alike, and need no barrier between them. */
const withoutSplit = (plan: FusionPlan): FusionPlan => ({
  ...plan,
  stages: plan.stages.map((stage) => ({ ...stage, split: 'none' })),
});

/** Parts of the positions: as many blocks as the target has, dealt to kv heads. */
const splitsFor = (dims: ModelDims, target: Target): number =>
  target.kind === 'cpu' ? 1 : partsFor(dims, target.sms);

/** The largest pass that fits the target's shared memory. */
function passTokensFor(
  graph: Graph,
  plan: FusionPlan,
  stages: readonly Stage[],
  target: Target,
  splits: number,
  library: LibraryScratch,
): number {
  if (plan.options.tokens !== 'many') return plan.options.tokens;
  if (target.kind === 'cpu') return 64;
  const fits = [8, 4, 2].find(
    (t) => 4 * scratchFloats(graph, stages, t, splits, library) + library.staticBytes <= target.sharedBytes,
  );
  return fits ?? 1;
}

function matmulOf(graph: Graph, stage: Stage): OpName | undefined {
  return stage.ops.find((name) => graph.ops.find((op) => op.name === name)?.kind === 'matmul');
}

const localHeadTensors = ['qn', 'kn', 'qr', 'kr'] as const;

/** Heads of a tensor that one unit of a stage over heads holds. */
function headsPerUnit(tensor: TensorName, stage: Stage, dims: ModelDims): number {
  const isQuery = tensor === 'qn' || tensor === 'qr';
  return isQuery && stage.over === 'kv_heads' ? dims.qHeads / dims.kvHeads : 1;
}

function placeTensors(graph: Graph, stages: readonly Stage[], passTokens: number, splits: number) {
  const { dims } = graph;
  const tensors: Partial<Record<TensorName, Placement>> = {};
  const buffers: Buffer[] = [];
  const used = new Set(graph.ops.flatMap((op) => [...op.reads, ...op.writes].map((a) => a.tensor)));
  const buffer = (name: string, members: readonly TensorName[]) => {
    let offset = 0;
    const stride = members.reduce((sum, t) => sum + elementsOf(t, dims, splits), 0);
    for (const t of members) {
      tensors[t] = { space: 'global', buffer: name, offset, stride };
      offset += elementsOf(t, dims, splits);
    }
    buffers.push({ name, tensors: members, stride });
  };
  buffer('qkv', ['q', 'k', 'v']);
  for (const tensor of used) {
    if (tensor === 'q' || tensor === 'k' || tensor === 'v' || tensor === 'next') continue;
    if (tensor === 'logits') {
      tensors.logits = { space: 'global', buffer: 'logits', offset: 0, stride: dims.vocab };
    } else if (tensor === 'cache') {
      tensors.cache = { space: 'cache' };
    } else if (!isLocal(graph, stages, tensor)) {
      buffer(tensor, [tensor]);
    } else if (!localHeadTensors.some((t) => t === tensor)) {
      const writer = graph.ops.find((op) => op.writes.some((w) => w.tensor === tensor))!;
      tensors[tensor] =
        writer.kind === 'norm' || writer.kind === 'merge' ? { space: 'input' } : { space: 'register' };
    }
  }
  for (const stage of stages) {
    let offset = 0;
    for (const tensor of localHeadTensors) {
      const op = graph.ops.find(
        (o) => stage.ops.includes(o.name) && o.writes.some((w) => w.tensor === tensor),
      );
      if (!op || tensors[tensor]) continue;
      const stride = headsPerUnit(tensor, stage, dims) * dims.headDim;
      tensors[tensor] = { space: 'scratch', offset, stride };
      offset = alignFloats(offset + passTokens * stride);
    }
  }
  return { tensors, buffers };
}

/** `freeScratch` of a finished schedule. */
export const freeScratchOf = (schedule: Schedule, stage: ScheduledStage): number =>
  freeScratch(schedule, stage, schedule.passTokens, schedule.tensors);

/** First float of a stage's scratch behind its placed tensors: what `attend` and `sample` may use. */
function freeScratch(
  graph: Pick<Graph, 'ops'>,
  stage: Pick<Stage, 'ops'>,
  passTokens: number,
  tensors: Schedule['tensors'],
): number {
  const ends = graph.ops
    .filter((op) => stage.ops.includes(op.name))
    .flatMap((op) => op.writes)
    .map(({ tensor }) => tensors[tensor])
    .map((p) => (p?.space === 'scratch' ? p.offset + passTokens * p.stride : 0));
  return alignFloats(Math.max(0, ...ends));
}

function scratchFloats(
  graph: Graph,
  stages: readonly Stage[],
  passTokens: number,
  splits: number,
  library: LibraryScratch,
): number {
  const { tensors } = placeTensors(graph, stages, passTokens, splits);
  const sizes = stages.map((stage) => {
    const free = freeScratch(graph, stage, passTokens, tensors);
    const matmul = matmulOf(graph, stage);
    if (matmul) return passTokens * padded(columnsOf(matmul, graph.dims));
    if (stage.ops.includes('attend')) {
      const group = stage.over === 'kv_heads' ? graph.dims.qHeads / graph.dims.kvHeads : 1;
      return free + library.attend(graph.dims, group, passTokens);
    }
    if (stage.ops.includes('sample')) return free + library.sample(graph.dims);
    return free;
  });
  return alignFloats(Math.max(line, ...sizes));
}

function buildStage(
  graph: Graph,
  stage: Stage,
  tensors: Schedule['tensors'],
  passTokens: number,
  splits: number,
): ScheduledStage {
  const { dims } = graph;
  const ops = stage.ops.map((name) => graph.ops.find((op) => op.name === name)!);
  const matmul = matmulOf(graph, stage);
  const input: Region = matmul
    ? { lo: 0, hi: passTokens * padded(columnsOf(matmul, dims)) }
    : { lo: 0, hi: 0 };
  const phases: Phase[] = [];
  const regionOf = (tensor: TensorName): Region[] => {
    const place = tensors[tensor];
    if (place?.space === 'scratch')
      return [{ lo: place.offset, hi: place.offset + passTokens * place.stride }];
    return place?.space === 'input' ? [input] : [];
  };
  const push = (
    kind: PhaseKind,
    members: readonly Op[],
    extra: { reads?: Region[]; writes?: Region[] } = {},
  ) =>
    phases.push({
      kind,
      ops: members.map((op) => op.name),
      recomputed: members.some((op) => stage.recompute.includes(op.name)),
      scratchReads: [
        ...members.flatMap((op) => op.reads.flatMap((a) => regionOf(a.tensor))),
        ...(extra.reads ?? []),
      ],
      scratchWrites: [
        ...members.flatMap((op) => op.writes.flatMap((a) => regionOf(a.tensor))),
        ...(extra.writes ?? []),
      ],
    });
  const free = freeScratch(graph, stage, passTokens, tensors);
  for (const [i, op] of ops.entries()) {
    const rowwise = (o: Op) => o.kind === 'pointwise';
    switch (op.kind) {
      case 'embed':
      case 'sample':
        push(op.kind, [op], op.kind === 'sample' ? { writes: [{ lo: free, hi: free + 1 }] } : {});
        break;
      case 'norm':
        push(stage.recompute.includes(op.name) ? 'norm_input' : 'norm', [op]);
        break;
      case 'merge':
        push(stage.recompute.includes(op.name) ? 'merge_input' : 'attn_merge', [op]);
        break;
      case 'matmul': {
        const source = op.reads[0]!.tensor;
        if (tensors[source]?.space !== 'input') {
          phases.push({
            kind: 'gather_input',
            ops: [op.name],
            recomputed: true,
            scratchReads: [],
            scratchWrites: [input],
          });
        }
        const end = ops.findIndex((o, j) => j > i && !rowwise(o));
        const chain = ops.slice(i + 1, end === -1 ? undefined : end);
        push('matmul', [op, ...chain], { reads: [input] });
        break;
      }
      case 'pointwise':
        if (!phases.some((phase) => phase.ops.includes(op.name))) push('pointwise', [op]);
        break;
      case 'headwise':
        push(op.name as 'qk_norm' | 'rope' | 'kv_append', [op]);
        break;
      case 'attend':
        push('attend', [op], { writes: [{ lo: free, hi: free + 1 }] });
        break;
      default:
        op.kind satisfies never;
    }
  }
  const heads = stage.over === 'q_heads' ? dims.qHeads : dims.kvHeads;
  const split = stage.split === 'positions';
  const rowOp = matmul ?? stage.ops[0]!;
  return {
    name: stage.name,
    part: ops[0]!.part,
    over: stage.over,
    split,
    units: unitsOf(stage.over, rowsOf(rowOp, dims), heads * (split ? splits : 1)),
    phases,
    weightBytes: matmul ? weightBytes(matmul, dims) : 0,
    ops: stage.ops,
  };
}

function unitsOf(over: Over, rows: number, heads: number): number {
  switch (over) {
    case 'rows':
      return rows;
    case 'q_heads':
    case 'kv_heads':
      return heads;
    case 'tokens':
      return 0;
    case 'once':
      return 1;
    default:
      return over satisfies never;
  }
}

function weightBytes(op: OpName, dims: ModelDims): number {
  const element = dims.dtype === 'fp32' ? 4 : 2;
  const parts = op === 'gate_up' ? 2 : 1;
  return element * parts * rowsOf(op, dims) * columnsOf(op, dims);
}

const overlap = (a: readonly Region[], b: readonly Region[]): boolean =>
  a.some((x) => b.some((y) => x.lo < y.hi && y.lo < x.hi));

/** A stage's ops in order, `*` behind those that every block makes for itself. */
export function markedOps(stage: ScheduledStage): string[] {
  const recomputed = new Set(
    stage.phases
      .filter((phase) => phase.recomputed && phase.kind !== 'gather_input')
      .flatMap((phase) => phase.ops),
  );
  return stage.ops.map((op) => (recomputed.has(op) ? `${op}*` : op));
}

/** True for stages whose blocks may take several units one after the other. */
export const loops = (stage: Pick<ScheduledStage, 'over'>): boolean =>
  stage.over === 'q_heads' || stage.over === 'kv_heads' || stage.over === 'tokens';

/**
 * The block syncs: between phases that share scratch or block-scope tensors, also from one unit of a loop to the next and from stage
 * to stage. A grid barrier orders the block as well. A sync after the last phase of a looping stage acts once a unit.
 */
function placeBlockSyncs(
  stages: readonly ScheduledStage[],
  hazards: readonly Hazard[],
  grid: readonly Sync[],
): Sync[] {
  const barriers = new Set(grid.map((sync) => sync.after.stage));
  const walk: { stage: ScheduledStage; phase: number; id: string; trip: number; lastUnit: boolean }[] = [];
  const visit = (stage: ScheduledStage, trip: number) => {
    const units = loops(stage) ? 2 : 1;
    for (let unit = 0; unit < units; unit++) {
      for (const phase of stage.phases.keys()) {
        walk.push({ stage, phase, id: `${stage.name} ${phase}`, trip, lastUnit: unit === units - 1 });
      }
    }
  };
  const of = (part: Op['part']) => stages.filter((s) => s.part === part);
  for (const stage of of('begin')) visit(stage, 0);
  for (const trip of [0, 1]) for (const stage of of('layer')) visit(stage, trip);
  for (const stage of of('end')) visit(stage, 1);

  const spans: Span[] = [];
  for (const [j, to] of walk.entries()) {
    for (let i = j - 1; i >= 0; i--) {
      const from = walk[i]!;
      const ordered =
        from.lastUnit && from.phase === from.stage.phases.length - 1 && barriers.has(from.stage.name);
      if (ordered) break;
      const why = blockConflict(from, to, hazards);
      if (why) spans.push({ from: i, to: j, why });
    }
  }
  const cuts = coverSpans(spans, (step) => walk[step]!.id);
  return [...cuts].map(([id, covered]) => {
    const step = walk.find((s) => s.id === id)!;
    return {
      scope: 'block',
      after: { stage: step.stage.name, phase: step.phase },
      reason: soonest(covered),
      covers: covered.length,
    };
  });
}

function blockConflict(
  from: { stage: ScheduledStage; phase: number; trip: number },
  to: { stage: ScheduledStage; phase: number; trip: number },
  hazards: readonly Hazard[],
): string | null {
  const a = from.stage.phases[from.phase]!;
  const b = to.stage.phases[to.phase]!;
  const last = (phase: Phase) => phase.ops.at(-1)!;
  if (overlap(a.scratchWrites, b.scratchReads))
    return `${b.ops[0]!} reads what all threads of the block put into its scratch`;
  if (overlap(a.scratchReads, b.scratchWrites))
    return `${b.ops[0]!} reuses the scratch that ${last(a)} reads`;
  if (overlap(a.scratchWrites, b.scratchWrites)) return `${b.ops[0]!} reuses the scratch of ${last(a)}`;
  const hazard = hazards.find(
    (h) =>
      h.scope === 'block' &&
      a.ops.includes(h.from.op) &&
      b.ops.includes(h.to.op) &&
      h.distance === Math.min(1, to.trip - from.trip) &&
      (from.stage !== to.stage || from.phase < to.phase),
  );
  return hazard?.why ?? null;
}
