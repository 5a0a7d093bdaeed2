// Two stages called embed would be two functions of one name.
import { plan, stage } from '../../codegen/plan/plan.ts';
import { around } from './around.ts';

export default plan('name-twice', around([stage('embed', ['o_proj', 'attn_add'], { over: 'rows' })]));
