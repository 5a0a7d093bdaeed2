// A plan of one's own, as an edit of a shipped one: both norms of a layer are made once, instead of by every block.
// Beside it edits of it, which `gen ablate` times one by one.
//
//     gen explain --model qwen3-0.6b --target h100 --plan examples/my-plan.ts
//     gen --model qwen3-0.6b --target h100 --plan examples/my-plan.ts
//     gen ablate examples/my-plan.ts --model qwen3-tiny --target cpu
import { own } from 'onelaunch/codegen';
import { resolvePlan } from 'onelaunch/configs';

const cooperative = await resolvePlan('cooperative');

const base = cooperative.with('norms-once', {
  attn_norm: own({ over: 'tokens' }),
  ffn_norm: own({ over: 'tokens' }),
});
export default base;

export const variants = [
  cooperative.with('attn-norm-once', { attn_norm: own({ over: 'tokens' }) }),
  cooperative.with('ffn-norm-once', { ffn_norm: own({ over: 'tokens' }) }),
];
