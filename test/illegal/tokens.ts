// More tokens than a GPU's pass holds.
import { barriers, plan, stage } from '../../codegen/plan/plan.ts';
import { around } from './around.ts';

const stages = around([stage('embed', ['embed'], { over: 'rows' })]);

export default plan('tokens', stages, barriers({ tokens: 12 }));
