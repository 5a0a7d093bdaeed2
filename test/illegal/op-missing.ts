// attn_add is never run.
import { plan, stage } from '../../codegen/plan/plan.ts';
import { around } from './around.ts';

export default plan('op-missing', around([stage('o_proj', ['o_proj'], { over: 'rows' })], ['attn_add']));
