// The graph as a stream computes it: what the plan's stages allow to be said in another way, with the same result.
import { accessesOf, type Graph, type Op, type OpName } from '../../model/graph.ts';
import type { FusionPlan, SplitStep } from '../../plan/plan.ts';

/** True where an op is done row by row in the epilogue of the product of queries, keys and values. */
const isInEpilogue = (plan: FusionPlan, op: OpName): boolean =>
  plan.stages.some((stage) => stage.ops.includes(op) && stage.ops.includes('qkv_proj'));

const replaced = (graph: Graph, by: Partial<Record<OpName, Partial<Op>>>): Graph => ({
  ...graph,
  ops: graph.ops.map((op) => ({ ...op, ...by[op.name] })),
});

/**
 * RMSNorm over a head and the rotation behind it, row by row: norm(q) w turned is factor (q w) turned, since a rotation is linear. So a block
 * that has some rows of a head norms and rotates them but for the factor, and hands over the squares that it follows from.
 *     qk_norm: a whole head -> a whole head                                    in the stage of attention
 *     qk_norm: a row -> a row, and squares; attention: times the factor        in the epilogue of qkv_proj
 */
function factoredHeadNorm(graph: Graph, isRotated: boolean): Graph {
  const hasNorm = graph.ops.some((op) => op.name === 'qk_norm');
  const [q, k] = hasNorm ? ['qn', 'kn'] : ['q', 'k'];
  const squares = hasNorm ? ' squares:kvHead' : '';
  const norm = { reads: accessesOf('q:row k:row'), writes: accessesOf('qn:row kn:row squares:row') };
  if (!isRotated) return replaced(graph, { qk_norm: norm });
  return replaced(graph, {
    qk_norm: norm,
    rope: { reads: accessesOf(`${q}:row ${k}:row`), writes: accessesOf('qr:row kr:row') },
    kv_append: { reads: accessesOf(`kr:kvHead v:kvHead${squares}`) },
    attend: { reads: accessesOf(`qr:qHead cache:slice${squares.replace('kvHead', 'qHead')}`) },
  });
}

/** Where one block has all positions of a head it makes the attention output itself: at some positions, or at all. */
function wholeHeads(graph: Graph, steps: readonly SplitStep[]): Graph {
  if (steps.every(({ splits }) => splits > 1)) return graph;
  if (steps.some(({ splits }) => splits > 1)) {
    return replaced(graph, { attend: { writes: accessesOf('partial:slice att:qHead') } });
  }
  const whole = replaced(graph, { attend: { writes: accessesOf('att:qHead') } });
  return { ...whole, ops: whole.ops.filter((op) => op.name !== 'attn_merge') };
}

/** The graph as the rules see it: a norm without its rotation too, so that it can be said what is missing. */
export function rowwiseHeads(graph: Graph, plan: FusionPlan): Graph {
  const isRotated = isInEpilogue(plan, 'rope');
  return isRotated || isInEpilogue(plan, 'qk_norm') ? factoredHeadNorm(graph, isRotated) : graph;
}

export const streamGraph = (graph: Graph, plan: FusionPlan, steps: readonly SplitStep[]): Graph =>
  wholeHeads(rowwiseHeads(graph, plan), steps);
