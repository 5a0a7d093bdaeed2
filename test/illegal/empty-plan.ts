// Nothing to run.
import { plan } from '../../codegen/plan.ts';

export default plan('empty-plan', []);
