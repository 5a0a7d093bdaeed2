// A tiny schedule of a stream: a tile of one row, and every block with a share of each product.
import type { ModelDims } from '../../model/dims.ts';
import { decoderGraph } from '../../model/graph.ts';
import { withScheme } from '../../plan/edits.ts';
import { byContext, type FusionPlan } from '../../plan/plan.ts';
import type { Target } from '../../schedule/target.ts';
import type { Tiny, TinyRun } from '../scheme.ts';
import { roomyBytes, tinyDims } from '../tiny.ts';
import { lowerStream } from './lower.ts';
import { passedByIn, type StreamSchedule } from './schedule.ts';
import { rowTile } from './sizes.ts';

const blocks = 4;
const sizes = { hidden: 12, ffn: 12, headDim: 8, vocab: 12 };

/** Sequences that share a pass, which has room for one more, by their positions: of one length, a long one among short ones, and one that a block has
 *  while another of its head has nothing. */
const batches: readonly Pick<TinyRun, 'rows' | 'wholeRows'>[] = [
  { rows: [3, 3] },
  { rows: [0, 6, 1] },
  { rows: [5], wholeRows: true },
];

/** Where the tiny run begins to share a head, if the plan begins with one block a head. */
const splitFrom = 3;

export function tinyStream(dims: ModelDims, plan: FusionPlan, target: Target): Tiny<StreamSchedule> {
  const { splitSteps, slices, products } = lowerStream(decoderGraph(dims), plan, target);
  const passedBy = passedByIn(products);
  const narrow = passedBy.has('o_proj');
  const tiny = tinyDims(dims, {
    ...sizes,
    ...(narrow ? { hidden: blocks - 1 } : {}),
    kvHeads: Math.min(2, dims.kvHeads),
  });
  // Sizes that deal a tile of 8 rows of each product to every block, or to all but one of what blocks pass by: the simulated tile has one row.
  const few = rowTile * (blocks - 1);
  const dealt = {
    ...tiny,
    hidden: narrow ? few : 16 * blocks,
    ffn: 16 * blocks,
    // A query head for each kv head: with more of them few rows would not be fours, which heads are rotated in.
    ...(passedBy.has('qkv_proj')
      ? { qHeads: tiny.kvHeads, headDim: few / (3 * tiny.kvHeads) }
      : { headDim: 8 * blocks }),
  };
  const lowered = lowerStream(decoderGraph(dealt), withSplits(plan, splitSteps, tiny), {
    ...target,
    sms: blocks,
    sharedBytes: roomyBytes,
  });
  const schedule = { ...lowered, dims: tiny, slices };
  const tokens = [1, 2].filter((count) => count <= schedule.passTokens);
  const rows = batches.filter(() => schedule.passTokens > 1);
  return {
    schedule,
    machines: [2, 3].flatMap((warps) => [
      ...tokens.flatMap((count) => [0, 2, 5].map((position) => ({ blocks, warps, tokens: count, position }))),
      ...rows.map((batch) => ({ blocks, warps, tokens: batch.rows!.length + 1, position: 0, ...batch })),
    ]),
  };
}

/** Splits where the real kernel has them: from the first position on, or from a later one. */
function withSplits(plan: FusionPlan, steps: StreamSchedule['splitSteps'], tiny: ModelDims): FusionPlan {
  const most = Math.max(1, Math.floor(blocks / tiny.kvHeads));
  const { scheme } = plan;
  if (scheme.kind !== 'stream' || most === 1 || steps.every(({ splits }) => splits === 1)) return plan;
  const late = steps[0]!.splits === 1;
  const splits = byContext(late ? { 1: 0, [most]: splitFrom } : { [most]: 0 });
  return withScheme(plan, { ...scheme, splits });
}
