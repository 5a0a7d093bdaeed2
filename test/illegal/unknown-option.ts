// Options that there are not: misspelt, of the other scheme, none at all.
import { barriers, own, plan, stage, stream } from '../../codegen/plan/plan.ts';
import cooperative from '../../configs/plans/cooperative.ts';
import unfused from '../../configs/plans/unfused.ts';

const split = { over: 'kv_heads', spilt: 'positions' } as never;
const flagged = barriers({ handoff: 'epoch' } as never);

export const ofAStage = plan('unknown-option', [
  ...unfused.stages.filter(({ name }) => name !== 'attend'),
  stage('attend', ['attend'], { over: 'kv_heads', spilt: 'positions' } as never),
]);
export const inAConstant = plan('unknown-option', [stage('attend', ['attend'], split)]);
export const ofTheOtherScheme = plan('unknown-option', unfused.stages, flagged);
export const ofAStream = cooperative.with('unknown-option', {}, stream({ slot: 8 } as never));
export const ofAPlan = plan('unknown-option', unfused.stages, stream(), { opps: {} } as never);
export const ofAnEdit = cooperative.with('unknown-option', {
  attn_norm: own({ over: 'tokens', recomputed: ['attn_norm'] } as never),
});
