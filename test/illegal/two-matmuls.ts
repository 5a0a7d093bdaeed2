// A block's scratch holds the input of one product.
import { plan, stage } from '../../codegen/plan/plan.ts';
import { around } from './around.ts';

export default plan(
  'two-matmuls',
  around([
    stage('attn_out', ['o_proj', 'attn_add', 'ffn_norm', 'gate_up'], {
      over: 'rows',
      recompute: ['ffn_norm'],
    }),
  ]),
);
