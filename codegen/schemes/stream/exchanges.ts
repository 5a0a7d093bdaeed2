// The exchanges of a plan, derived: one for each vector of words that a stage makes and other blocks read.
import type { Graph, OpName, TensorName } from '../../model/graph.ts';
import type { FusionPlan } from '../../plan/plan.ts';
import type { Hazard } from '../../schedule/hazards.ts';
import { type CacheSync, type ExchangeSync, walkOf } from '../../schedule/syncs.ts';
import type { StreamStage } from './schedule.ts';

/** Tensors that one product makes travel together; the residual has a name for each place where it is handed over. */
function wordsOf(tensor: TensorName, maker: OpName): string {
  switch (tensor) {
    case 'q':
    case 'k':
    case 'v':
    case 'qr':
    case 'kr':
      return 'qkv';
    case 'squares':
      return 'head_squares';
    case 'logits':
      return 'argmax_candidates';
    case 'x':
      return maker === 'attn_add' ? 'x_after_attention' : 'x';
    default:
      return tensor;
  }
}

/**
 * What is overwritten needs no sync of its own: `uncovered` checks that words are used again only when all their readers have gone on. The
 * embedding is a table that all blocks read. The token comes last: every block reads its embedding itself.
 */
export function placeExchanges(graph: Graph, plan: FusionPlan, hazards: readonly Hazard[]): ExchangeSync[] {
  const { names, stepsOf } = walkOf(graph, plan);
  const stageOf = (op: OpName) => plan.stages.find((stage) => stage.ops.includes(op))!.name;
  const attend = stageOf('attend');
  /** Another stage between makes it anew, always: at some positions attention makes what merging makes at others. */
  const isLatest = (hazard: Hazard): boolean => {
    if (hazard.from.stage === attend) return true;
    const [from, to] = stepsOf(hazard);
    const between = names.slice(from + 1, to);
    return !hazards.some(
      (h) => h.kind === 'RAW' && h.tensor === hazard.tensor && between.includes(h.from.stage),
    );
  };
  const carried = hazards.filter(
    (h) => h.kind === 'RAW' && h.scope === 'grid' && h.from.op !== 'embed' && isLatest(h),
  );
  const groups = new Map<string, { words: string; stage: string; hazards: Hazard[] }>();
  for (const hazard of carried) {
    const words = wordsOf(hazard.tensor, hazard.from.op);
    const { stage } = hazard.from;
    const key = `${stage} ${words}`;
    const group = groups.get(key) ?? { words, stage, hazards: [] };
    groups.set(key, group);
    group.hazards.push(hazard);
  }
  const exchanges = [...groups.values()].map(
    ({ words, stage, hazards: made }): ExchangeSync => ({
      scope: 'exchange',
      after: { stage, phase: -1 },
      words,
      tensors: [...new Set(made.map((hazard) => hazard.tensor))],
      readers: [...new Set(made.map((hazard) => hazard.to.stage))],
      reason: made[0]!.why,
      covers: made.length,
    }),
  );
  const token: ExchangeSync = {
    scope: 'exchange',
    after: { stage: stageOf('sample'), phase: -1 },
    words: 'sampled_token',
    tensors: ['next'],
    readers: [stageOf('embed')],
    reason: 'embed of the next pass needs next, which sample makes in another block',
    covers: 1,
  };
  return [...exchanges, token];
}

/**
 * The next pass streams positions that blocks append in this one. Whoever has seen what all blocks publish behind attention knows that all
 * have appended: so they publish there only when what they appended is visible. Where the blocks that read this are not all, the others know
 * in the next layer, and of the last layer in front of the head, from what those publish.
 * @param passedBy products that blocks without a tile pass by
 */
export function placeCacheSync(
  stages: readonly StreamStage[],
  exchanges: readonly ExchangeSync[],
  passedBy: ReadonlySet<OpName>,
): CacheSync[] {
  const layer = stages.filter((stage) => stage.part === 'layer');
  const attention = layer.findIndex((stage) => stage.body.kind === 'attend');
  const isOfAll = ({ body }: StreamStage, kinds: readonly string[]) =>
    kinds.includes(body.kind) && !passedBy.has(body.op);
  const guard = layer.findIndex(
    (stage, i) =>
      i > attention &&
      isOfAll(stage, ['product', 'kept']) &&
      exchanges.some((e) => e.after.stage === stage.name),
  );
  const next = layer.findIndex((stage, i) => i > guard && stage.body.kind === 'product');
  if (guard === -1 || next === -1) return [];
  const sync = (stage: StreamStage, layersBefore: 0 | 1): CacheSync => ({
    scope: 'cache',
    after: { stage: stage.name, phase: -1 },
    guard: layer[guard]!.name,
    layersBefore,
    reason: 'attend of the next pass streams positions that kv_append stores in other blocks',
    covers: 1,
  });
  if (isOfAll(layer[next]!, ['product'])) return [sync(layer[next]!, 0)];
  const [inLayer, inEnd] = (['layer', 'end'] as const).map((part) =>
    stages.find((stage) => stage.part === part && isOfAll(stage, ['product'])),
  );
  return [sync(inLayer!, 1), sync(inEnd!, 1)];
}
