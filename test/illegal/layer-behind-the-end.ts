// ffn_add runs in every layer, and its stage stands behind those that run once.
import { plan, stage } from '../../codegen/plan/plan.ts';
import unfused from '../../configs/plans/unfused.ts';

const others = unfused.stages.filter((made) => made.name !== 'ffn_add');

export default plan('layer-behind-the-end', [...others, stage('ffn_add', ['ffn_add'], { over: 'rows' })]);
