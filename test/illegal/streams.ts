// Plans with a stream, each with one mistake; the first, whole, is illegal only for some models and targets.
import type { OpName } from '../../codegen/model/graph.ts';
import { plan, type Stage, stage, stream } from '../../codegen/plan/plan.ts';
import legal from '../../configs/plans/stream.ts';

/** The stages of the built-in plan, with `stages` in the place of those that have their ops. */
function around(...stages: readonly Stage[]): Stage[] {
  const named = (stage: Stage, ops: readonly OpName[]) => stage.ops.some((op) => ops.includes(op));
  const all = stages.flatMap((stage) => stage.ops);
  const at = legal.stages.findIndex((stage) => named(stage, all));
  const kept = legal.stages.filter((stage) => !named(stage, all));
  return [...kept.slice(0, at), ...stages, ...kept.slice(at)];
}
const { stages } = legal;
const both = { sync: 'exchange', weights: stream() } as const;

export const whole = plan('whole', stages, { sync: 'exchange', weights: stream() });
export const noStream = plan('no_stream', stages, { sync: 'exchange' });
export const noExchange = plan('no_exchange', stages, { weights: stream() });
export const tokens = plan('tokens', stages, { sync: 'exchange', weights: stream(), tokens: 12 });
export const manyTokens = plan('many_tokens', stages, { sync: 'exchange', weights: stream(), tokens: 16 });
export const smallTile = plan('small_tile', stages, { sync: 'exchange', weights: stream({ tile: 4096 }) });
export const oddTile = plan('odd_tile', stages, { sync: 'exchange', weights: stream({ tile: 20480 }) });
export const fewSlots = plan('few_slots', stages, { sync: 'exchange', weights: stream({ stages: 3 }) });
export const variable = plan(
  'variable',
  [stage('step', ['embed'], { over: 'rows' }), ...stages.slice(1)],
  both,
);

export const begins = plan(
  'begins',
  around(
    stage('attn_norm', ['attn_norm'], { over: 'tokens' }),
    stage('qkv_proj', ['qkv_proj'], { over: 'rows' }),
  ),
  both,
);
export const goesOn = plan(
  'goes_on',
  around(
    stage('attn_out', ['attn_merge', 'o_proj', 'attn_add'], { over: 'rows', recompute: ['attn_merge'] }),
  ),
  both,
);
export const ends = plan(
  'ends',
  around(stage('o_proj', ['o_proj'], { over: 'rows' }), stage('attn_add', ['attn_add'], { over: 'rows' })),
  both,
);
export const notRecomputed = plan(
  'not_recomputed',
  around(
    stage('attention', ['qk_norm', 'rope', 'kv_append', 'attend'], {
      over: 'kv_heads',
      recompute: ['qk_norm'],
    }),
  ),
  both,
);
export const notSplit = plan(
  'not_split',
  around(
    stage('attention', ['qk_norm', 'rope', 'kv_append', 'attend'], {
      over: 'kv_heads',
      recompute: ['qk_norm', 'rope'],
    }),
  ),
  both,
);
