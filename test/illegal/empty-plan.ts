// Nothing to run.
import { plan } from '../../codegen/plan/plan.ts';

export default plan('empty-plan', []);
