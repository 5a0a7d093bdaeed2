// ffn_norm is run by two stages.
import { plan, stage } from '../../codegen/plan/plan.ts';
import { around } from './around.ts';

export default plan(
  'op-twice',
  around([
    stage('ffn_norm', ['ffn_norm'], { over: 'tokens' }),
    stage('ffn_up', ['ffn_norm', 'gate_up'], { over: 'rows', recompute: ['ffn_norm'] }),
  ]),
);
