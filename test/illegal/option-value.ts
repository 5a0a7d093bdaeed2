// Values that options do not take.
import { barriers, byContext, plan, stage, stream } from '../../codegen/plan/plan.ts';
import unfused from '../../configs/plans/unfused.ts';

export const ofAStage = plan('option-value', [stage('embed', ['embed'], { over: 'row' as never })]);
export const missing = plan('option-value', [stage('embed', ['embed'], {} as never)]);
export const outOfRange = plan('option-value', unfused.stages, stream({ slots: 65, slotBytes: 10000 }));
export const ofBarriers = plan('option-value', unfused.stages, barriers({ prefetch: -1 }));
export const tooManySplits = plan('option-value', unfused.stages, stream({ splits: byContext({ 32: 0 }) }));
