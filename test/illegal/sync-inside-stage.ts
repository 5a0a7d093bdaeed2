// o_proj reads all heads, and each block makes one.
import { plan, stage } from '../../codegen/plan/plan.ts';
import { around } from './around.ts';

export default plan(
  'sync-inside-stage',
  around([stage('attention', ['attend', 'attn_merge', 'o_proj'], { over: 'q_heads' })]),
);
