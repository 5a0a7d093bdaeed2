// More tokens than a GPU's pass holds.
import { plan, stage } from '../../codegen/plan/plan.ts';
import { around } from './around.ts';

export default plan('tokens', around([stage('embed', ['embed'], { over: 'rows' })]), { tokens: 12 });
