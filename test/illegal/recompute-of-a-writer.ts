// Every block would store the same rows.
import { plan, stage } from '../../codegen/plan/plan.ts';
import { around } from './around.ts';

export default plan(
  'recompute-of-a-writer',
  around([stage('o_proj', ['o_proj', 'attn_add'], { over: 'rows', recompute: ['o_proj'] })]),
);
