// Prompts: up to 1,024 tokens through all layers in one launch, products as tiles for the matrix instructions; and its variants.
import { into, own, plan, stage, tiles } from '../../codegen/plan/plan.ts';

const base = plan(
  'prefill',
  [
    stage('embed', ['embed'], { over: 'rows' }),
    stage('qkv', ['attn_norm', 'qkv_proj', 'qk_norm', 'rope', 'kv_append'], {
      over: 'rows',
      recompute: ['attn_norm'],
    }),
    stage('attention', ['attend', 'attn_merge'], { over: 'q_heads' }),
    stage('attn_out', ['o_proj', 'attn_add'], { over: 'rows' }),
    stage('ffn_up', ['ffn_norm', 'gate_up', 'swiglu'], { over: 'rows', recompute: ['ffn_norm'] }),
    stage('ffn_down', ['down_proj', 'ffn_add'], { over: 'rows' }),
    stage('final_norm', ['final_norm'], { over: 'tokens' }),
    stage('head', ['lm_head'], { over: 'rows' }),
  ],
  tiles(),
);
export default base;

const norms = { attn_norm: own({ over: 'tokens' }), ffn_norm: own({ over: 'tokens' }) };
const heads = { qk_norm: own({ over: 'kv_heads' }), rope: into('qk_norm'), kv_append: into('qk_norm') };

/** Each drops one thing: what it costs then says what it is worth. */
export const variants = [
  base.with('prefill-norms-apart', norms),
  base.with('prefill-heads-apart', heads),
  base.with('prefill-apart', { ...norms, ...heads }),
  base.with('prefill-small-tiles', {}, { tokenTile: 64 }),
  base.with('prefill-large-tiles', {}, { tokenTile: 128, rowTile: 128 }),
  base.with('prefill-mma', {}, { multiply: 'mma' }),
  base.with('prefill-two-slots', {}, { slots: 2 }),
];
