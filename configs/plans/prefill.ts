// Prompts: up to 1,024 tokens through all layers in one launch, products as tiles for the matrix instructions.
import { plan, stage, tiles } from '../../codegen/plan/plan.ts';

export default plan(
  'prefill',
  [
    stage('embed', ['embed'], { over: 'rows' }),
    stage('attn_norm', ['attn_norm'], { over: 'tokens' }),
    stage('qkv', ['qkv_proj'], { over: 'rows' }),
    stage('heads', ['qk_norm', 'rope', 'kv_append'], { over: 'kv_heads' }),
    stage('attention', ['attend', 'attn_merge'], { over: 'q_heads' }),
    stage('attn_out', ['o_proj', 'attn_add'], { over: 'rows' }),
    stage('ffn_norm', ['ffn_norm'], { over: 'tokens' }),
    stage('ffn_up', ['gate_up', 'swiglu'], { over: 'rows' }),
    stage('ffn_down', ['down_proj', 'ffn_add'], { over: 'rows' }),
    stage('final_norm', ['final_norm'], { over: 'tokens' }),
    stage('head', ['lm_head'], { over: 'rows' }),
  ],
  tiles(),
);
