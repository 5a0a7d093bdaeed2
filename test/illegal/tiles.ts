// Plans with tiles, each with one mistake; the first, whole, is illegal only for some models and targets.
import { dealt, into, plan, stage, tiles } from '../../codegen/plan/plan.ts';
import prefill, { variants } from '../../configs/plans/prefill.ts';

const { stages } = variants.find(({ name }) => name === 'prefill-apart')!;

export const whole = plan('whole', stages, tiles());
export const tokens = plan('tokens', stages, tiles({ tokens: 3000 }));
export const noTokens = plan('no_tokens', stages, tiles({ tokens: 0 }));
export const recomputed = prefill.with('recomputed', { final_norm: into('head', { recompute: true }) });
export const split = prefill.with('split', { attention: dealt({ split: 'positions', over: 'kv_heads' }) });
export const wgmma = prefill.with('wgmma', {}, { multiply: 'wgmma' });

/** The stages of the shipped plan with others in the place of those that have the same ops. */
const by = (...others: readonly ReturnType<typeof stage>[]) => {
  const ops = new Set(others.flatMap((one) => one.ops));
  const first = stages.findIndex((one) => one.ops.some((op) => ops.has(op)));
  const kept = stages.filter((one) => !one.ops.some((op) => ops.has(op)));
  return [...kept.slice(0, first), ...others, ...kept.slice(first)];
};

export const headsBehindProduct = plan(
  'heads_behind_product',
  by(
    stage('qkv', ['qkv_proj', 'qk_norm'], { over: 'rows' }),
    stage('heads', ['rope', 'kv_append'], { over: 'kv_heads' }),
  ),
  tiles(),
);
export const unmerged = plan(
  'unmerged',
  by(
    stage('attention', ['attend'], { over: 'q_heads' }),
    stage('merge', ['attn_merge'], { over: 'q_heads' }),
  ),
  tiles(),
);
export const addAlone = plan(
  'add_alone',
  by(stage('attn_out', ['o_proj'], { over: 'rows' }), stage('add', ['attn_add'], { over: 'rows' })),
  tiles(),
);
