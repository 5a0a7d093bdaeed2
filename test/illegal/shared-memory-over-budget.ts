// The input of down_proj, for 8 tokens, is more than a block's shared memory.
import { barriers, plan, stage } from '../../codegen/plan/plan.ts';
import { around } from './around.ts';

export default plan(
  'shared-memory-over-budget',
  around([stage('embed', ['embed'], { over: 'rows' })]),
  barriers({ tokens: 8 }),
);
