// Rules about the size of a pass: its tokens, and the shared memory that they need.
import { atPlan, type Context, type Finding } from './finding.ts';
import type { Issue } from './issue.ts';
import { libraryScratch } from './library-scratch.ts';
import { withTokens } from './plan-edits.ts';
import { assignWork } from './schedule.ts';
import type { Target } from './target.ts';

export function tokensOutOfRange({ plan, target }: Context): Finding[] {
  const { tokens } = plan.options;
  const most = mostTokens(target);
  if (tokens === 'many' || (Number.isInteger(tokens) && tokens >= 1 && tokens <= most)) return [];
  return [
    {
      rule: 'tokens',
      ...atPlan(plan, 'tokens', String(tokens)),
      why: `a pass has 1 to ${most} tokens on ${target.name}, not ${tokens}`,
      edits: [
        { text: `tokens: ${most}`, plans: () => [withTokens(plan, most)] },
        { text: `tokens: 'many'`, plans: () => [withTokens(plan, 'many')] },
      ],
    },
  ];
}

/** Asked last: only a plan that is legal otherwise has a schedule. */
export function overBudget({ graph, plan, target }: Context): Issue[] {
  if (target.kind === 'cpu') return [];
  const library = libraryScratch(target);
  const bytes = (tokens: number) =>
    4 * assignWork(graph, withTokens(plan, tokens), target, library).scratchFloats + library.staticBytes;
  const wanted = plan.options.tokens === 'many' ? 1 : plan.options.tokens;
  const needed = bytes(wanted);
  if (needed <= target.sharedBytes) return [];
  const fewer = range(1, wanted - 1).findLast((tokens) => bytes(tokens) <= target.sharedBytes);
  const { at, call, token, argument, nth } =
    wanted > 1 ? atPlan(plan, 'tokens', String(wanted)) : atPlan(plan, 'name', plan.name);
  const why =
    `a pass of ${wanted === 1 ? '1 token' : `${wanted} tokens`} needs ${Math.ceil(needed / 1024)} KiB of shared memory a block, ` +
    `and ${target.name} has ${target.sharedBytes / 1024}`;
  const legal = fewer ? [`tokens: ${fewer}`, `tokens: 'many'`] : [];
  return [{ rule: 'shared-memory-over-budget', at, call, token, argument, nth, why, legal }];
}

const mostTokens = (target: Target): number => (target.kind === 'cuda' ? 8 : 128);

const range = (first: number, last: number): number[] =>
  Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => first + i);
