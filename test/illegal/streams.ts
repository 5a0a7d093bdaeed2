// Plans with a stream, each with one mistake; the first, whole, is illegal only for some models and targets.
import { byContext, dealt, into, own, plan, stage, stream } from '../../codegen/plan/plan.ts';
import legal from '../../configs/plans/stream.ts';

const { stages } = legal;

export const whole = plan('whole', stages, stream());
export const tokens = plan('tokens', stages, stream({ tokens: 12 }));
export const manyTokens = plan('many_tokens', stages, stream({ tokens: 16, slotBytes: 16384 }));
export const wideSlots = plan('wide_slots', stages, stream({ slotBytes: 16384 }));
export const smallSlots = plan('small_slots', stages, stream({ slotBytes: 4096 }));
export const oddSlots = plan('odd_slots', stages, stream({ slotBytes: 20480 }));
export const fewSlots = plan('few_slots', stages, stream({ slots: 3 }));
export const lateSplits = plan('late_splits', stages, stream({ splits: byContext({ 4: 64, 8: 128 }) }));
export const fewerSplits = plan('fewer_splits', stages, stream({ splits: byContext({ 4: 0, 2: 128 }) }));
export const reservedName = plan(
  'reserved_name',
  [stage('switch', ['embed'], { over: 'rows' }), ...stages.slice(1)],
  stream(),
);

/** Head norm and rotation behind their product: legal where a head has a multiple of four elements. */
export const rotated = legal.with('rotated', { qk_norm: into('qkv'), rope: into('qkv') });
export const normedAlone = legal.with('normed_alone', { qk_norm: into('qkv') });
export const normApart = legal.with('norm_apart', { qk_norm: own({ over: 'kv_heads' }) });
export const kept = legal.with('kept', {
  attention: dealt({ recompute: ['qk_norm'], split: 'none' }),
});
export const appendApart = plan(
  'append_apart',
  stages.flatMap((one) =>
    one.name === 'attention'
      ? [
          stage('append', ['qk_norm', 'rope', 'kv_append'], { over: 'kv_heads' }),
          stage('attend', ['attend'], { over: 'kv_heads', split: 'positions' }),
        ]
      : [one],
  ),
  stream(),
);
export const mergedInAttention = plan(
  'merged_in_attention',
  stages.flatMap((one) =>
    one.name === 'attention'
      ? [
          stage('append', ['qk_norm', 'rope', 'kv_append'], { over: 'kv_heads' }),
          stage('attend', ['attend', 'attn_merge'], { over: 'q_heads' }),
        ]
      : one.name === 'merge'
        ? []
        : [one],
  ),
  stream(),
);
