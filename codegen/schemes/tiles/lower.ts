// A checked plan as tiles: stages given a form, products cut, activations given memory, barriers derived.
import { invariant } from '../../../errors.ts';
import type { ModelDims } from '../../model/dims.ts';
import { isBlocks } from '../../model/formats.ts';
import type { Graph, OpName } from '../../model/graph.ts';
import { columnsOf, matrixRowsOf, productOf, products as productOps } from '../../model/ops.ts';
import { packWeights, padded, slotsOf } from '../../model/packing.ts';
import { formatOf } from '../../model/weights.ts';
import { withStages } from '../../plan/edits.ts';
import { type FusionPlan, fit, type Stage } from '../../plan/plan.ts';
import { findHazards, stagesFor } from '../../schedule/hazards.ts';
import { codedRoundings } from '../../schedule/schedule.ts';
import { scheduledStage } from '../../schedule/stage.ts';
import { placeGridSyncs } from '../../schedule/syncs.ts';
import type { Target } from '../../schedule/target.ts';
import { positionBytes, shapeOf, streamPlaces } from '../stream/sizes.ts';
import { tilesCost } from './cost.ts';
import { headRowsStage, promptGraph } from './rewrite.ts';
import type { TileBuffer, TileStage, TilesSchedule } from './schedule.ts';
import {
  chunks,
  multiplyOf,
  sharedFor,
  slotsRoom,
  squareParts,
  tileKernels,
  tileSides,
  tileWarps,
  worthWaiting,
} from './sizes.ts';
import { formOf, isRefusal } from './stages.ts';

/**
 * Activations that tiles round to the weights' type. In a layer: the normed input, q, k and v, the rotated query, the softmax's weights, att,
 * the other normed input, h. Once: the last normed input.
 */
const roundings = { perLayer: 9, once: 1 } as const;
/** Products of a layer whose matrices, in blocks, are rounded to that type when they are unpacked: as much as if their inputs were once more. */
const unpackedProducts = productOps.filter((op) => op !== 'lm_head').length;

/** A launch that has many tokens is the shortest than which none is predicted clearly quicker for each token. */
export function lowerTiles(written: Graph, plan: FusionPlan, target: Target): TilesSchedule {
  invariant(plan.scheme.kind === 'tiles', 'only a plan with tiles is lowered here');
  const { tokens } = plan.scheme;
  if (tokens !== 'many') return lowerChunk(written, plan, target, tokens);
  const made = chunks.map((most) => lowerChunk(written, plan, target, most));
  const microsOf = (schedule: TilesSchedule) =>
    (tilesCost(schedule, 0, schedule.passTokens).micros ?? 0) / schedule.passTokens;
  return made.reduce((best, one) => (microsOf(one) * worthWaiting < microsOf(best) ? one : best));
}

function lowerChunk(written: Graph, plan: FusionPlan, target: Target, most: number): TilesSchedule {
  const graph = promptGraph(written, plan);
  const { dims } = graph;
  const { scheme } = plan;
  invariant(scheme.kind === 'tiles', 'only a plan with tiles is lowered here');
  const multiply = multiplyOf(scheme, target);
  const kernels = tileKernels(dims, most, {
    scheme,
    blocks: target.sms,
    headRows: headRowsStage(plan) !== undefined,
    room: slotsRoom(dims, target),
  });
  const dealt = withStages(plan, plan.stages.map(wholeTokens));
  const stages = withNormsAhead(stagesFor(graph, dealt).map((stage) => lowerStage(graph, stage)));
  const hazards = findHazards(graph, dealt);
  const packing = packWeights(dims, true);
  const { weights: _, ...plain } = dims;
  const unpacked = isBlocks(formatOf(dims, 'down')) ? streamPlaces(plain) : null;
  const makesLogits = !isBlocks(formatOf(dims, 'head'));
  const isMade = ({ part }: Pick<TileStage, 'part'>) => makesLogits || part !== 'end';
  return {
    scheme: 'tiles',
    dims,
    target,
    ops: graph.ops,
    plan: { name: plan.name },
    passTokens: most,
    leastTokens: scheme.from === fit ? null : scheme.from,
    splits: 1,
    warps: tileWarps,
    blocks: target.sms,
    stages: stages.filter(isMade),
    products: productOps
      .filter((op) => makesLogits || op !== 'lm_head')
      .map((op) => shapeOf(plain, op, target.sms)),
    unpacked,
    readsCodes: dims.cache !== undefined,
    makesLogits,
    kernels,
    buffers: buffersOf(plain, most),
    ...sharedFor(dims, target, kernels, scheme.slots, multiply),
    mostSteps: scheme.slots,
    multiply,
    packing,
    cachedBytes: positionBytes(dims),
    slots: slotsOf(dims, packing),
    hazards,
    syncs: placeGridSyncs(graph, dealt, hazards),
    roundings: {
      ...roundings,
      perLayer: roundings.perLayer + (unpacked ? unpackedProducts : 0) + codedRoundings(dims),
    },
    pairRoundings: { perLayer: 0, once: 0 },
  };
}

/** With many of them, a token's row of the embedding is one warp's, as its norm is. */
const wholeTokens = (stage: Stage): Stage =>
  stage.ops[0] === 'embed' ? { ...stage, over: 'tokens' } : stage;

function lowerStage(graph: Graph, stage: Stage): TileStage {
  const ops = stage.ops.map((name) => graph.ops.find((op) => op.name === name)!);
  const form = formOf(stage, ops);
  invariant(form !== null && !isRefusal(form), `stage ${stage.name} of a checked plan has a form`);
  return { ...scheduledStage(graph, stage, { splits: 1, bytesOf: unpackedBytes }), ...form, ahead: null };
}

/** Products read numbers, blocks unpacked. */
const unpackedBytes = (product: OpName, dims: ModelDims): number =>
  2 * matrixRowsOf(product, dims) * columnsOf(product, dims);

/** Who makes the residual stream that a norm of a layer reads: in a layer, and in front of the first. */
const makers: Readonly<Partial<Record<OpName, readonly OpName[]>>> = {
  attn_norm: ['embed', 'ffn_add'],
  ffn_norm: ['attn_add'],
};

/** Norms of which products make the factor alone: the rest is made where their input is. */
function withNormsAhead(stages: readonly TileStage[]): TileStage[] {
  const norms = stages.flatMap(({ norm }) => norm ?? []);
  return stages.map((stage) => {
    const ahead = norms.find((norm) => makers[norm]!.some((op) => stage.ops.includes(op)));
    return ahead ? { ...stage, ahead } : stage;
  });
}

/** The residual stream stays in float; what a product reads lies as its weights do. */
function buffersOf(dims: ModelDims, most: number): TileBuffer[] {
  const [q, kv] = [dims.qHeads * dims.headDim, dims.kvHeads * dims.headDim];
  const tokens = Math.ceil(most / tileSides.at(-1)!) * tileSides.at(-1)!;
  const plain = (name: string, tensors: TileBuffer['tensors'], columns: number, form: 'float' | 'rows') => {
    const stride = form === 'float' ? padded(columns) : columns;
    return { name, tensors, form, product: null, columns, stride, tokens };
  };
  const operand = (product: OpName): TileBuffer => {
    const { input } = productOf(product);
    const { tileBytes, columns } = shapeOf(dims, product, 1);
    return {
      name: input,
      tensors: [input],
      form: 'operand',
      product,
      columns,
      stride: tileBytes / 16,
      tokens,
    };
  };
  return [
    plain('x', ['x'], dims.hidden, 'float'),
    { ...plain('squares', [], squareParts(dims), 'float'), stride: squareParts(dims) },
    operand('qkv_proj'),
    plain('qkv', ['q', 'k', 'v'], q + 2 * kv, 'rows'),
    plain('queries', ['qr'], dims.qHeads * padded(dims.headDim), 'rows'),
    operand('o_proj'),
    operand('gate_up'),
    operand('down_proj'),
    { ...operand('lm_head'), tokens: tileSides.at(-1)! },
  ];
}
