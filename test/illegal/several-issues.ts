// Four mistakes in three stages.
import { plan, stage } from '../../codegen/plan/plan.ts';
import { around } from './around.ts';

export default plan(
  'several-issues',
  around([
    stage('qkv', ['attn_norm', 'qkv_proj', 'qk_norm'], { over: 'rows', recompute: ['attn_norm'] }),
    stage('attention', ['rope', 'kv_append', 'attend'], { over: 'kv_heads', split: 'positions' }),
    stage('attn out', ['attn_merge', 'o_proj'], { over: 'rows' }),
  ]),
);
