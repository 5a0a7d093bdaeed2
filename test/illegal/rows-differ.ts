// attn_add has as many rows as the residual, gate_up as many as the feed-forward part.
import { plan, stage } from '../../codegen/plan/plan.ts';
import { around } from './around.ts';

export default plan(
  'rows-differ',
  around([stage('ffn_up', ['attn_add', 'ffn_norm', 'gate_up'], { over: 'rows', recompute: ['ffn_norm'] })]),
);
