// With fewer kv heads than q heads, several q heads share a key head.
import { plan, stage } from '../../codegen/plan/plan.ts';
import { around } from './around.ts';

export default plan(
  'stored-by-several-workers',
  around([stage('qk_norm', ['qk_norm'], { over: 'q_heads' })]),
);
