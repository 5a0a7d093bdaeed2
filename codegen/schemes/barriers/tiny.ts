// A tiny schedule with barriers: few heads and rows on few blocks, so that a block takes several units and blocks share every tensor.
import type { ModelDims } from '../../model/dims.ts';
import { decoderGraph } from '../../model/graph.ts';
import type { FusionPlan } from '../../plan/plan.ts';
import type { Target } from '../../schedule/target.ts';
import type { Tiny } from '../scheme.ts';
import { roomyBytes, tinyDims } from '../tiny.ts';
import { lowerBarriers } from './lower.ts';
import type { BarrierSchedule } from './schedule.ts';

/** No two counts of rows are the same: a stage that is dealt by the wrong one would go unseen. */
const sizes = { hidden: 7, ffn: 9, headDim: 2, vocab: 10 };

/** More than kv heads twice, so that a plan which splits the positions does. */
const dealtTo = 7;

/** With fewer blocks than heads a block takes several units; with two warps threads of a block can race. */
const shapes = [
  { blocks: 2, warps: 2 },
  { blocks: 3, warps: 3 },
  { blocks: 5, warps: 2 },
];

export function tinyBarriers(dims: ModelDims, plan: FusionPlan, target: Target): Tiny<BarrierSchedule> {
  const graph = decoderGraph(tinyDims(dims, { ...sizes, kvHeads: Math.min(3, dims.kvHeads) }));
  const roomy = { ...target, sms: dealtTo, sharedBytes: target.sharedBytes && roomyBytes };
  const schedule = lowerBarriers(graph, plan, roomy);
  const tokens = [1, 3].filter((count) => count <= schedule.passTokens);
  return {
    schedule,
    machines: shapes.flatMap((shape) =>
      tokens.flatMap((count) => [0, 5].map((position) => ({ ...shape, tokens: count, position }))),
    ),
  };
}
