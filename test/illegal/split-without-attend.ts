// Only attention works on positions.
import { plan, stage } from '../../codegen/plan/plan.ts';
import { around } from './around.ts';

export default plan(
  'split-without-attend',
  around([stage('kv_append', ['kv_append'], { over: 'kv_heads', split: 'positions' })]),
);
