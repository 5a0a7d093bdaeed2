// A stage becomes a C++ function.
import { plan, stage } from '../../codegen/plan/plan.ts';
import { around } from './around.ts';

export default plan('stage-name', around([stage('attn out', ['o_proj', 'attn_add'], { over: 'rows' })]));
