// embed runs once, attn_norm once a layer.
import { plan, stage } from '../../codegen/plan/plan.ts';
import { around } from './around.ts';

export default plan(
  'mixed-parts',
  around([stage('start', ['embed', 'attn_norm'], { over: 'rows', recompute: ['attn_norm'] })]),
);
