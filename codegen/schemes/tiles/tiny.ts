// A tiny schedule with tiles: few rows and tokens on few blocks, so that tiles of every product are in several blocks.
import type { ModelDims } from '../../model/dims.ts';
import { decoderGraph } from '../../model/graph.ts';
import type { FusionPlan } from '../../plan/plan.ts';
import type { Target } from '../../schedule/target.ts';
import type { Tiny } from '../scheme.ts';
import { roomyBytes, tinyDims } from '../tiny.ts';
import { lowerTiles } from './lower.ts';
import type { TilesSchedule } from './schedule.ts';

/** No two counts of rows are the same: a stage that is dealt by the wrong one would go unseen. */
const sizes = { hidden: 24, ffn: 20, headDim: 8, vocab: 40 };

const shapes = [
  { blocks: 2, warps: 1 },
  { blocks: 3, warps: 1 },
  { blocks: 5, warps: 1 },
];

/** Tiles of the tiny model. */
const tile = { tokens: 2, rows: 8 };

/** Tokens whose heads are dealt to two blocks, which take eight of a token and a kv head at a time. */
const tokensFor = ({ kvHeads }: ModelDims): number => Math.max(5, Math.ceil(9 / kvHeads));

export function tinyTiles(dims: ModelDims, plan: FusionPlan, target: Target): Tiny<TilesSchedule> {
  const graph = decoderGraph(tinyDims(dims, { ...sizes, kvHeads: Math.min(3, dims.kvHeads) }));
  const made = lowerTiles(graph, plan, { ...target, sms: 7, sharedBytes: roomyBytes });
  const [kernel] = made.kernels;
  const rows = Object.fromEntries(Object.keys(kernel!.rows).map((op) => [op, tile.rows]));
  const schedule = { ...made, kernels: [{ ...kernel!, tokens: tile.tokens, rows }] };
  return {
    schedule,
    machines: shapes.flatMap((shape) =>
      [1, tokensFor(graph.dims)].flatMap((tokens) =>
        [0, 3].map((position) => ({ ...shape, tokens, position })),
      ),
    ),
  };
}
