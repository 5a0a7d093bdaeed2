// Rules about the size of a pass at barriers: its tokens, and the shared memory that they need.
import { ofTokens, withTokens } from '../../plan/edits.ts';
import { atPlan, type Context, type Finding } from '../../plan/finding.ts';
import { overBudget, passText, range } from '../../plan/rules/size.ts';
import { platformOf } from '../../schedule/target.ts';
import { libraryScratch } from './library-scratch.ts';
import { lowerBarriers } from './lower.ts';

export function tokensOutOfRange(context: Context): Finding[] {
  const { plan, target } = context;
  const { tokens } = plan.scheme;
  const most = platformOf(target).mostTokens;
  if (tokens === 'many' || range(1, most).includes(tokens)) return [];
  return [
    {
      rule: 'tokens',
      ...atPlan(plan, 'tokens', String(tokens)),
      why: `a pass has 1 to ${most} tokens on ${target.name}, not ${tokens}`,
      edits: [ofTokens(context, most), ofTokens(context, 'many')],
    },
  ];
}

export function barrierBudget(context: Context): Finding[] {
  const { graph, plan, target } = context;
  if (target.sharedBytes === 0) return [];
  const library = libraryScratch(target);
  const bytes = (tokens: number) =>
    4 * lowerBarriers(graph, withTokens(plan, tokens), target, library).scratchFloats + library.staticBytes;
  const { tokens } = plan.scheme;
  const wanted = tokens === 'many' ? 1 : tokens;
  const needed = bytes(wanted);
  if (needed <= target.sharedBytes) return [];
  const fewer = range(1, wanted - 1).findLast((count) => bytes(count) <= target.sharedBytes);
  const edits = fewer ? [ofTokens(context, fewer), ofTokens(context, 'many')] : [];
  return [overBudget(context, wanted, passText(wanted), needed, edits)];
}
