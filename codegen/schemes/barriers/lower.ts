// A checked plan at barriers: pass size, placements, phases, syncs.
import type { ModelDims } from '../../model/dims.ts';
import { isBlocks } from '../../model/formats.ts';
import {
  elementsOf,
  type Graph,
  type Op,
  type OpName,
  splitsFor,
  type TensorName,
} from '../../model/graph.ts';
import { columnsOf, isProduct, productOf } from '../../model/ops.ts';
import { packWeights, padded, slotsOf } from '../../model/packing.ts';
import { cacheRowBytes, formatOf } from '../../model/weights.ts';
import { withStages } from '../../plan/edits.ts';
import type { FusionPlan, Stage } from '../../plan/plan.ts';
import { findHazards, isLocal, stagesFor } from '../../schedule/hazards.ts';
import type { Roundings } from '../../schedule/schedule.ts';
import { scheduledStage } from '../../schedule/stage.ts';
import { placeGridSyncs } from '../../schedule/syncs.ts';
import { platformOf, type Target } from '../../schedule/target.ts';
import { placeBlockSyncs } from './block-syncs.ts';
import { libraryScratch } from './library-scratch.ts';
import type {
  BarrierSchedule,
  BarrierStage,
  Buffer,
  LibraryScratch,
  Phase,
  PhaseKind,
  Placement,
  Region,
} from './schedule.ts';
import { mostTokensOf, type Tuning, tuningOf } from './tuning.ts';

const line = 32;
const alignFloats = (n: number): number => Math.ceil(n / line) * line;

/** Deals the work of a checked plan. `library`: scratch that the target's library keeps for itself. */
export function lowerBarriers(
  graph: Graph,
  written: FusionPlan,
  target: Target,
  library: LibraryScratch = libraryScratch(tuningOf(written, target)),
): BarrierSchedule {
  const { dims } = graph;
  const tuning = tuningOf(written, target);
  const blocks = tuning.mostBlocks ?? target.sms;
  const isSplit = written.stages.some((s) => s.split === 'positions');
  const splits = isSplit && blocks > 0 ? splitsFor(dims, blocks) : 1;
  const plan = splits === 1 ? withoutSplit(written) : written;
  const stages = stagesFor(graph, plan);
  const passTokens = passTokensFor(graph, plan, stages, target, splits, library);
  const hazards = findHazards(graph, plan);
  const packing = packWeights(dims);
  const { tensors, buffers } = placeTensors(graph, stages, passTokens, splits);
  const built = stages.map((stage) => buildStage(graph, stage, tensors, passTokens, splits, tuning));
  const grid = placeGridSyncs(graph, plan, hazards);
  return {
    scheme: 'barriers',
    dims,
    target,
    ops: graph.ops,
    plan: { name: plan.name },
    tuning,
    passTokens,
    splits,
    warps: tuning.warps,
    blocks,
    stages: built,
    tensors,
    buffers,
    scratchFloats: scratchFloats(graph, stages, passTokens, splits, library),
    packing,
    cachedBytes: 2 * cacheRowBytes(dims),
    slots: slotsOf(dims, packing),
    hazards,
    syncs: [...grid, ...placeBlockSyncs(built, hazards, grid)],
    roundings: tuning.inputBits === 8 ? { ...none, inputBits: 8 } : none,
    pairRoundings: passTokens > 1 ? pairRoundings(graph, target) : none,
  };
}

/** One split of the positions is none: stages that differ in nothing else then deal alike, and need no barrier between them. */
const withoutSplit = (plan: FusionPlan): FusionPlan =>
  withStages(
    plan,
    plan.stages.map((stage) => ({ ...stage, split: 'none' })),
  );

const none: Roundings = { perLayer: 0, once: 0 };

/** What templates/cpu/lib/step.h rounds as Paired: the input of each product whose rows are not in blocks, and the queries, unless the keys have scales. */
function pairRoundings({ ops, dims }: Graph, target: Target): Roundings {
  if (platformOf(target).kind !== 'cpu' || dims.dtype !== 'bf16') return none;
  const rounds = ops.flatMap(({ name, part }) => {
    if (isProduct(name)) return isBlocks(formatOf(dims, productOf(name).weight)) ? [] : [part];
    return name === 'attend' && dims.cache === undefined ? [part] : [];
  });
  const perLayer = rounds.filter((part) => part === 'layer').length;
  return { perLayer, once: rounds.length - perLayer };
}

/** Shared memory of a block with so much scratch [bytes]. */
export const sharedBytes = ({ staticBytes, ringBytes }: LibraryScratch, scratch: number): number =>
  4 * scratch + staticBytes + ringBytes;

/** The largest pass that fits the target's shared memory. */
function passTokensFor(
  graph: Graph,
  plan: FusionPlan,
  stages: readonly Stage[],
  target: Target,
  splits: number,
  library: LibraryScratch,
): number {
  if (plan.scheme.tokens !== 'many') return plan.scheme.tokens;
  const bytes = (t: number) => sharedBytes(library, scratchFloats(graph, stages, t, splits, library));
  const fits = (t: number) => target.sharedBytes === 0 || bytes(t) <= target.sharedBytes;
  const most = mostTokensOf(plan, target);
  return platformOf(target).manyTokens.find((t) => t <= most && fits(t)) ?? 1;
}

const matmulOf = (stage: Pick<Stage, 'ops'>): OpName | undefined => stage.ops.find(isProduct);

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
export const freeScratchOf = (schedule: BarrierSchedule, stage: BarrierStage): number =>
  freeScratch(schedule, stage, schedule.passTokens, schedule.tensors);

/** First float of a stage's scratch behind its placed tensors: what `attend` and `sample` may use. */
function freeScratch(
  graph: Pick<Graph, 'ops'>,
  stage: Pick<Stage, 'ops'>,
  passTokens: number,
  tensors: BarrierSchedule['tensors'],
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
    const matmul = matmulOf(stage);
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
  tensors: BarrierSchedule['tensors'],
  passTokens: number,
  splits: number,
  { inputs }: Tuning,
): BarrierStage {
  const { dims } = graph;
  const ops = stage.ops.map((name) => graph.ops.find((op) => op.name === name)!);
  const matmul = matmulOf(stage);
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
        const gathers = tensors[source]?.space !== 'input';
        const isFrom = gathers && inputs === 'global';
        if (gathers && !isFrom) {
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
        if (isFrom) push('matmul_from', [op, ...chain], { writes: [input] });
        else push('matmul', [op, ...chain], { reads: [input] });
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
  return { ...scheduledStage(graph, stage, { splits }), phases };
}
