// A misspelt op, as a JavaScript user may write it.
import { plan, stage } from '../../codegen/plan/plan.ts';
import { around } from './around.ts';

export default plan(
  'op-unknown',
  around(
    [
      // @ts-expect-error
      stage('attend', ['atend'], { over: 'kv_heads' }),
      stage('attn_merge', ['attn_merge'], { over: 'q_heads' }),
    ],
    ['attend'],
  ),
);
