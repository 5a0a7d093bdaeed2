// A plan of one's own, as an edit of a shipped one: both norms of a layer are made once, instead of by every block.
//
//     gen explain --model qwen3-0.6b --target h100 --plan examples/my-plan.ts
//     gen --model qwen3-0.6b --target h100 --plan examples/my-plan.ts
import { own } from 'onelaunch/codegen';
import { resolvePlan } from 'onelaunch/configs';

const cooperative = await resolvePlan('cooperative');

export default cooperative.with('norms-once', {
  attn_norm: own({ over: 'tokens' }),
  ffn_norm: own({ over: 'tokens' }),
});
