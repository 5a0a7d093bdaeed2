// Weights as one stream that no stage stops, activations handed over word by word, a whole reply in one launch; and its variants.
import { byContext, dealt, into, own, plan, stage, stream } from '../../codegen/plan/plan.ts';

const base = plan(
  'stream',
  [
    stage('embed', ['embed'], { over: 'rows' }),
    stage('qkv', ['attn_norm', 'qkv_proj'], { over: 'rows', recompute: ['attn_norm'] }),
    stage('attention', ['qk_norm', 'rope', 'kv_append', 'attend'], {
      over: 'kv_heads',
      split: 'positions',
      recompute: ['qk_norm', 'rope'],
    }),
    stage('merge', ['attn_merge'], { over: 'q_heads' }),
    stage('attn_out', ['o_proj', 'attn_add'], { over: 'rows' }),
    stage('ffn_up', ['ffn_norm', 'gate_up', 'swiglu'], { over: 'rows', recompute: ['ffn_norm'] }),
    stage('ffn_down', ['down_proj', 'ffn_add'], { over: 'rows' }),
    stage('head', ['final_norm', 'lm_head'], { over: 'rows', recompute: ['final_norm'] }),
    stage('sample', ['sample'], { over: 'once' }),
  ],
  stream(),
);
export default base;

const rotated = { qk_norm: into('qkv'), rope: into('qkv') };
const merged = { attn_merge: into('attn_out', { recompute: true }) };
const once = { over: 'tokens' } as const;
const rows = { over: 'rows' } as const;
const few = stream({ splits: byContext({ 1: 0, 4: 128 }) });
const growing = stream({ splits: byContext({ 1: 0, 2: 96, 4: 192, 8: 512, 16: 1024 }) });
const sixteen = stream({ splits: byContext({ 1: 0, 16: 192 }) });

/** What each does otherwise is measured in docs/devlog.md. */
export const variants = [
  base.with('stream-rotated', rotated),
  base.with('stream-merged', merged, few),
  base.with('stream-growing', {}, growing),
  base.with('stream-sixteen', {}, sixteen),
  base.with('stream-few-splits', {}, few),
  base.with('stream-unsplit', { attention: dealt({ split: 'none' }) }),
  base.with('stream-split-at-once', {}, stream({ splits: byContext({ 8: 0 }) })),
  base.with('stream-rotated-merged', { ...rotated, ...merged }, few),
  base.with('stream-rotated-growing', rotated, growing),
  base.with('stream-attn-norm-once', { attn_norm: own(once) }),
  base.with('stream-ffn-norm-once', { ffn_norm: own(once) }),
  base.with('stream-norms-once', { attn_norm: own(once), ffn_norm: own(once), final_norm: own(once) }),
  base.with('stream-adds-apart', { attn_add: own(rows), ffn_add: own(rows) }),
  base.with('stream-all-apart', {
    attn_add: own(rows),
    swiglu: own(rows),
    ffn_add: own(rows),
    attn_norm: own(once),
  }),
  base.with('stream-epochs', {}, stream({ handoff: 'epoch' })),
];
