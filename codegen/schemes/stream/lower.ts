// A checked plan as a stream: graph rewritten, stages given a form, exchanges derived, ring and kernels sized.
import { invariant } from '../../../errors.ts';
import type { Graph, OpName } from '../../model/graph.ts';
import { products as productOps } from '../../model/ops.ts';
import { packWeights, padded, slotsOf } from '../../model/packing.ts';
import { withStages } from '../../plan/edits.ts';
import type { FusionPlan, Stage, StreamScheme } from '../../plan/plan.ts';
import { findHazards, stagesFor } from '../../schedule/hazards.ts';
import { codedRoundings } from '../../schedule/schedule.ts';
import { scheduledStage } from '../../schedule/stage.ts';
import type { Target } from '../../schedule/target.ts';
import { placeMeetings } from './block-syncs.ts';
import { placeCacheSync, placeExchanges } from './exchanges.ts';
import { streamGraph } from './rewrite.ts';
import { passedByIn, type StreamSchedule, type StreamStage } from './schedule.ts';
import {
  blocksFor,
  fitCheckTokens,
  fitKernels,
  fitRing,
  fitSlices,
  fitSlotBytes,
  fitSplits,
  positionBytes,
  type SizeInput,
  shapeOf,
  streamPlaces,
  streamWarps,
} from './sizes.ts';
import { formOf, isRefusal, type StageForm } from './stages.ts';

/**
 * Activations that a stream rounds to the weights' type. In a layer: x and its normed form, q, k and v as they cross blocks, the rotated
 * query, the softmax's weights, att, x behind attention and its normed form, h. Once: the last x and its normed form.
 */
const roundings = { perLayer: 11, once: 2 } as const;

const isSplit = (plan: FusionPlan): boolean => plan.stages.some((stage) => stage.split === 'positions');

/** Products whose rows wait in the block for a pointwise op of another stage. */
const keptProducts = (stages: readonly StreamStage[]): OpName[] =>
  stages.flatMap(({ body }) => (body.kind === 'kept' ? [body.op] : []));

/** What the kernels of a plan are sized for. */
export function sizeInput(graph: Graph, plan: FusionPlan, target: Target, scheme: StreamScheme): SizeInput {
  const kept = plan.stages.flatMap((stage) => {
    const form = formOf(graph, stage);
    return form && !isRefusal(form) && form.body.kind === 'kept' ? [form.body.op] : [];
  });
  const blocks = blocksFor(graph.dims, target, scheme.blocks);
  const input = { dims: graph.dims, target, blocks, slots: scheme.slots, kept };
  return { ...input, slotBytes: fitSlotBytes(input, scheme.slotBytes) };
}

export function lowerStream(written: Graph, plan: FusionPlan, target: Target): StreamSchedule {
  const { dims } = written;
  const { scheme } = plan;
  invariant(scheme.kind === 'stream', 'only a plan with a stream is lowered here');
  const blocks = blocksFor(dims, target, scheme.blocks);
  const splitSteps = fitSplits(dims, blocks, isSplit(plan), scheme.splits);
  const splits = Math.max(...splitSteps.map((step) => step.splits));
  const graph = streamGraph(written, plan, splitSteps);
  const size = sizeInput(written, plan, target, scheme);
  const kernels = fitKernels(size, scheme.tokens);
  invariant(kernels !== null, 'a checked plan has a stream that fits');
  const whole = plan.stages.map((stage): Stage => ({ ...stage, split: 'none' }));
  const dealt = splits === 1 ? withStages(plan, whole) : plan;
  const stages = stagesFor(graph, dealt).map((stage) => lowerStage(graph, stage, splits));
  const hazards = findHazards(graph, dealt);
  const exchanges = placeExchanges(graph, dealt, hazards);
  const places = streamPlaces(dims);
  const products = productOps.map((op) => ({
    ...shapeOf(dims, op, blocks),
    at: places.at[op]!,
    stage: stages.find((stage) => stage.ops.includes(op))!.name,
  }));
  const packing = packWeights(dims, true);
  return {
    scheme: 'stream',
    dims,
    target,
    ops: graph.ops,
    plan: { name: plan.name },
    passTokens: kernels.at(-1)!.tokens,
    checkTokens: fitCheckTokens(size, kernels),
    splits,
    warps: streamWarps,
    blocks,
    stages,
    products,
    ring: fitRing(size, scheme),
    pollCycles: scheme.pollCycles === 'fit' ? (target.pollCycles ?? {}) : scheme.pollCycles,
    splitSteps,
    slices: fitSlices(dims, blocks, splitSteps),
    kept: keptProducts(stages),
    headPad: padded(dims.headDim),
    kernels,
    streamBytes: places.bytes,
    streamLayerBytes: places.layerBytes,
    packing,
    cachedBytes: positionBytes(dims),
    slots: slotsOf(dims, packing),
    hazards,
    syncs: [
      ...exchanges,
      ...placeCacheSync(stages, exchanges, passedByIn(products)),
      ...placeMeetings(stages),
    ],
    roundings: { ...roundings, perLayer: roundings.perLayer + codedRoundings(dims) },
    pairRoundings: { perLayer: 0, once: 0 },
  };
}

function lowerStage(graph: Graph, stage: Stage, splits: number): StreamStage {
  const form = formOf(graph, stage);
  invariant(form !== null && !isRefusal(form), `stage ${stage.name} of a checked plan has a form`);
  const lost = stage.ops.filter((op) => !opsIn(form).includes(op));
  invariant(lost.length === 0, `stage ${stage.name} runs ${lost.join(', ')}, too`);
  return { ...scheduledStage(graph, stage, { splits }), ...form };
}

/** The ops that a form runs; what attends appends, too. */
const opsIn = ({ prologue, body, epilogue }: StageForm): OpName[] => [
  ...prologue.flatMap((step) => (step.kind === 'gather' ? [] : [step.op])),
  body.op,
  ...(body.kind === 'attend' ? (['kv_append'] as const) : []),
  ...epilogue.map((step) => step.op),
];
