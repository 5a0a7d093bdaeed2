// A plan's name is part of a path.
import { plan } from '../../codegen/plan/plan.ts';
import unfused from '../../configs/plans/unfused.ts';

export default plan('../../x y', unfused.stages);
