// Weights as one stream that no stage stops, activations handed over word by word, a whole reply in one launch.
import { plan, stage, stream } from '../../codegen/plan/plan.ts';

export default plan(
  'stream',
  [
    stage('embed', ['embed'], { over: 'rows' }),
    stage('qkv', ['attn_norm', 'qkv_proj'], { over: 'rows', recompute: ['attn_norm'] }),
    stage('attention', ['qk_norm', 'rope', 'kv_append', 'attend'], {
      over: 'kv_heads',
      split: 'positions',
      recompute: ['qk_norm', 'rope'],
    }),
    stage('merge', ['attn_merge'], { over: 'q_heads' }),
    stage('attn_out', ['o_proj', 'attn_add'], { over: 'rows' }),
    stage('ffn_up', ['ffn_norm', 'gate_up', 'swiglu'], { over: 'rows', recompute: ['ffn_norm'] }),
    stage('ffn_down', ['down_proj', 'ffn_add'], { over: 'rows' }),
    stage('head', ['final_norm', 'lm_head'], { over: 'rows', recompute: ['final_norm'] }),
    stage('sample', ['sample'], { over: 'once' }),
  ],
  { sync: 'exchange', weights: stream({ stages: 12, inFlightHead: 8, tile: 16384 }) },
);
