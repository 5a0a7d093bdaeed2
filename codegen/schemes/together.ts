// Which plans one library can be made of: one that decodes, and beside it one for prompts or none.
import { OnelaunchError } from '../../errors.ts';
import type { FusionPlan } from '../plan/plan.ts';
import { platformOf, type Target } from '../schedule/target.ts';
import { schemeFor } from './index.ts';

/** Where either is undefined, what can be said of the other. On a target without tiles, the rules of the plan for prompts say so. @throws OnelaunchError usage */
export function checkTogether(
  plan: FusionPlan | undefined,
  promptPlan: FusionPlan | null | undefined,
  target: Target | undefined,
): void {
  const refused = (text: string, hint: string) => new OnelaunchError('usage', text, { hint });
  if (plan?.scheme.kind === 'tiles') {
    throw refused(
      `plan ${plan.name} takes in prompts and makes no tokens`,
      `give it as --prompt-plan ${plan.file ?? plan.name}, beside a plan that decodes`,
    );
  }
  if (!promptPlan) return;
  if (promptPlan.scheme.kind !== 'tiles') {
    throw refused(
      `plan ${promptPlan.name} decodes: a plan for prompts has tiles`,
      `give it as --plan ${promptPlan.file ?? promptPlan.name}, and for prompts one that ends in tiles(...), such as prefill`,
    );
  }
  const differing = [...ofPlan(plan), ...ofPlan(promptPlan)].filter(
    (op) => plan && !(op in plan.ops && op in promptPlan.ops),
  );
  if (plan && differing.length > 0) throw otherFunction(plan, promptPlan, differing);
  if (!plan || !target || !platformOf(target).streams || schemeFor(plan, target).name === 'stream') return;
  throw refused(
    `plan ${promptPlan.name} reads the weights of a stream, and ${plan.name} has ${plan.scheme.kind}`,
    'give it beside --plan stream',
  );
}

const ofPlan = (plan: FusionPlan | undefined): readonly string[] => Object.keys(plan?.ops ?? {});

/** Of a prompt and of the tokens behind it the same is to be computed. */
export const otherFunction = (
  plan: Pick<FusionPlan, 'name'>,
  promptPlan: Pick<FusionPlan, 'name'>,
  ops: readonly string[],
): OnelaunchError =>
  new OnelaunchError(
    'usage',
    `plan ${promptPlan.name} computes ${ops.join(', ')} of a prompt otherwise than ${plan.name} of the tokens behind it`,
    { hint: 'give both plans the same ops, imported from one file' },
  );
