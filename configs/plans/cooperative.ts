// The seed's design: one cooperative launch a token, five fused stages a layer, grid barriers, LM head and sampling in the same launch.
import { plan, stage } from '../../codegen/plan/plan.ts';

export default plan('cooperative', [
  stage('embed', ['embed'], { over: 'rows' }),
  stage('qkv', ['attn_norm', 'qkv_proj'], { over: 'rows', recompute: ['attn_norm'] }),
  stage('attention', ['qk_norm', 'rope', 'kv_append', 'attend'], {
    over: 'kv_heads',
    split: 'positions',
    recompute: ['qk_norm', 'rope'],
  }),
  stage('attn_out', ['attn_merge', 'o_proj', 'attn_add'], { over: 'rows', recompute: ['attn_merge'] }),
  stage('ffn_up', ['ffn_norm', 'gate_up', 'swiglu'], { over: 'rows', recompute: ['ffn_norm'] }),
  stage('ffn_down', ['down_proj', 'ffn_add'], { over: 'rows' }),
  stage('head', ['final_norm', 'lm_head'], { over: 'rows', recompute: ['final_norm'] }),
  stage('sample', ['sample'], { over: 'once' }),
]);
