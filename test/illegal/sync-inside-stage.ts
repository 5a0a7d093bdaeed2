// o_proj reads all heads, and each block has made one.
import { plan, stage } from '../../codegen/plan.ts';
import { around } from './around.ts';

export default plan(
  'sync-inside-stage',
  around([
    stage('attention', ['attend', 'o_proj'], { over: 'kv_heads' }),
    stage('attn_merge', ['attn_merge'], { over: 'q_heads' }),
  ]),
);
