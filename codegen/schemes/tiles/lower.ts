// A checked plan as tiles: stages given a form, products cut, activations given memory, barriers derived.
import { invariant } from '../../../errors.ts';
import type { ModelDims } from '../../model/dims.ts';
import type { Graph, OpName } from '../../model/graph.ts';
import {
  columnsOf,
  isProduct,
  matrixRowsOf,
  normOf,
  products as productOps,
  rowsOf,
} from '../../model/ops.ts';
import { packWeights, padded, slotsOf } from '../../model/packing.ts';
import type { FusionPlan, Stage } from '../../plan/plan.ts';
import { findHazards, stagesFor } from '../../schedule/hazards.ts';
import { unitsOf } from '../../schedule/schedule.ts';
import { placeGridSyncs } from '../../schedule/syncs.ts';
import type { Target } from '../../schedule/target.ts';
import { shapeOf, streamStaticBytes } from '../stream/sizes.ts';
import type { TileBuffer, TileStage, TilesSchedule } from './schedule.ts';
import { headTokens, mostTokens, sharedFor, tileKernels, tileWarps } from './sizes.ts';
import { formOf, isRefusal } from './stages.ts';

/**
 * Activations that tiles round to the weights' type. In a layer: the normed input, q, k and v, the rotated query, the softmax's weights, att,
 * the other normed input, h. Once: the last normed input.
 */
const roundings = { perLayer: 9, once: 1 } as const;

/** Decoding samples, and begins with the last token of a prompt. */
export const promptGraph = (graph: Graph): Graph => ({
  ...graph,
  ops: graph.ops.filter(({ name }) => name !== 'sample'),
});

export function lowerTiles(written: Graph, plan: FusionPlan, target: Target): TilesSchedule {
  const graph = promptGraph(written);
  const { dims } = graph;
  const { scheme } = plan;
  invariant(scheme.kind === 'tiles', 'only a plan with tiles is lowered here');
  const most = scheme.tokens === 'many' ? mostTokens : scheme.tokens;
  const kernels = tileKernels(dims, most, { scheme, blocks: target.sms });
  const stages = stagesFor(graph, plan).map((stage) => lowerStage(graph, stage));
  const hazards = findHazards(graph, plan);
  const packing = packWeights(dims, true);
  return {
    scheme: 'tiles',
    dims,
    target,
    ops: graph.ops,
    plan: { name: plan.name },
    passTokens: most,
    splits: 1,
    warps: tileWarps,
    blocks: target.sms,
    stages,
    products: productOps.map((op) => shapeOf(dims, op, target.sms)),
    kernels,
    buffers: buffersOf(dims, most),
    headPad: padded(dims.headDim),
    ...sharedFor(dims, target, kernels, scheme.slots, streamStaticBytes),
    mostSteps: scheme.slots,
    packing,
    slots: slotsOf(dims, packing),
    hazards,
    syncs: placeGridSyncs(graph, plan, hazards),
    roundings,
  };
}

function lowerStage(graph: Graph, stage: Stage): TileStage {
  const ops = stage.ops.map((name) => graph.ops.find((op) => op.name === name)!);
  const form = formOf(stage, ops);
  invariant(form !== null && !isRefusal(form), `stage ${stage.name} of a checked plan has a form`);
  const { dims } = graph;
  const product = stage.ops.find(isProduct);
  const heads = stage.over === 'q_heads' ? dims.qHeads : dims.kvHeads;
  return {
    ...form,
    name: stage.name,
    part: ops[0]!.part,
    over: stage.over,
    split: false,
    units: unitsOf(stage.over, rowsOf(product ?? stage.ops[0]!, dims), heads),
    weightBytes: product ? 2 * matrixRowsOf(product, dims) * columnsOf(product, dims) : 0,
    ops: stage.ops,
    recompute: stage.recompute,
  };
}

/** The residual stream stays in float; what a product reads has its type and its padding. */
function buffersOf(dims: ModelDims, tokens: number): TileBuffer[] {
  const [q, kv] = [dims.qHeads * dims.headDim, dims.kvHeads * dims.headDim];
  const rounded = (name: string, tensors: TileBuffer['tensors'], columns: number, stride: number) => ({
    name,
    tensors,
    isFloat: false,
    columns,
    stride,
    tokens,
  });
  const normed = (op: OpName) => {
    const { result } = normOf(op);
    return rounded(result, [result], dims.hidden, padded(dims.hidden));
  };
  return [
    { ...rounded('x', ['x'], dims.hidden, padded(dims.hidden)), isFloat: true },
    normed('attn_norm'),
    rounded('qkv', ['q', 'k', 'v'], q + 2 * kv, q + 2 * kv),
    rounded('queries', ['qr'], dims.qHeads * padded(dims.headDim), dims.qHeads * padded(dims.headDim)),
    rounded('att', ['att'], q, padded(q)),
    normed('ffn_norm'),
    rounded('h', ['h'], dims.ffn, padded(dims.ffn)),
    { ...normed('final_norm'), tokens: headTokens },
  ];
}
