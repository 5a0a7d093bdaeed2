// rope reads what qk_norm has not made yet.
import { plan, stage } from '../../codegen/plan/plan.ts';
import { around } from './around.ts';

export default plan(
  'op-before-its-input',
  around([
    stage('rope', ['rope'], { over: 'kv_heads' }),
    stage('qk_norm', ['qk_norm'], { over: 'kv_heads' }),
  ]),
);
