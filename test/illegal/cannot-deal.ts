// Attention works on heads.
import { plan, stage } from '../../codegen/plan/plan.ts';
import { around } from './around.ts';

export default plan('cannot-deal', around([stage('attend', ['attend'], { over: 'rows' })]));
