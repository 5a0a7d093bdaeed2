// Every op a stage of its own: the baseline, and the easiest to read.
import { plan, stage } from '../../codegen/plan/plan.ts';

export default plan('unfused', [
  stage('embed', ['embed'], { over: 'rows' }),
  stage('attn_norm', ['attn_norm'], { over: 'tokens' }),
  stage('qkv_proj', ['qkv_proj'], { over: 'rows' }),
  stage('qk_norm', ['qk_norm'], { over: 'kv_heads' }),
  stage('rope', ['rope'], { over: 'kv_heads' }),
  stage('kv_append', ['kv_append'], { over: 'kv_heads' }),
  stage('attend', ['attend'], { over: 'kv_heads', split: 'positions' }),
  stage('attn_merge', ['attn_merge'], { over: 'q_heads' }),
  stage('o_proj', ['o_proj'], { over: 'rows' }),
  stage('attn_add', ['attn_add'], { over: 'rows' }),
  stage('ffn_norm', ['ffn_norm'], { over: 'tokens' }),
  stage('gate_up', ['gate_up'], { over: 'rows' }),
  stage('swiglu', ['swiglu'], { over: 'rows' }),
  stage('down_proj', ['down_proj'], { over: 'rows' }),
  stage('ffn_add', ['ffn_add'], { over: 'rows' }),
  stage('final_norm', ['final_norm'], { over: 'tokens' }),
  stage('lm_head', ['lm_head'], { over: 'rows' }),
  stage('sample', ['sample'], { over: 'once' }),
]);
