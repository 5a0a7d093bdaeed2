// What a block makes for itself, another stage cannot read.
import { plan, stage } from '../../codegen/plan/plan.ts';
import { around } from './around.ts';

export default plan(
  'recomputed-elsewhere',
  around([stage('rope', ['qk_norm', 'rope'], { over: 'kv_heads', recompute: ['rope'] })]),
);
