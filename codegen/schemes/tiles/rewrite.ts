// The graph as tiles compute it: no token is chosen, and what is done in the epilogue of a product is done row by row.
import { accessesOf, type Graph, type Op, type OpName } from '../../model/graph.ts';
import type { FusionPlan, Stage } from '../../plan/plan.ts';

/** The stage in which heads are normed, rotated and stored where their product is made. */
export const headRowsStage = ({ stages }: Pick<FusionPlan, 'stages'>): Stage | undefined =>
  stages.find(({ ops }) => ops.includes('qkv_proj') && ops.includes('kv_append'));

/** A tile of queries, keys and values has whole heads: norm, rotation and cache take its rows where they are. */
function rowwiseHeads(graph: Graph): Graph {
  const [q, k] = graph.ops.some(({ name }) => name === 'qk_norm') ? ['qn', 'kn'] : ['q', 'k'];
  const by: Partial<Record<OpName, Partial<Op>>> = {
    qk_norm: { reads: accessesOf('q:row k:row'), writes: accessesOf('qn:row kn:row') },
    rope: { reads: accessesOf(`${q}:row ${k}:row`), writes: accessesOf('qr:row kr:row') },
    kv_append: { reads: accessesOf('kr:row v:row'), writes: accessesOf('cache:row') },
  };
  return { ...graph, ops: graph.ops.map((op) => ({ ...op, ...by[op.name] })) };
}

/** Kernels of decoding sample, behind a launch too. */
export function promptGraph(graph: Graph, plan: FusionPlan): Graph {
  const made = { ...graph, ops: graph.ops.filter(({ name }) => name !== 'sample') };
  return headRowsStage(plan) ? rowwiseHeads(made) : made;
}
