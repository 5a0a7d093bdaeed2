// Rules about the size of a pass: its tokens, and the shared memory that they need.

import { assignWork } from '../../schedule/schedule.ts';
import type { Target } from '../../schedule/target.ts';
import { libraryScratch } from '../../schemes/barriers/library-scratch.ts';
import {
  fewestSlots,
  mostQueries,
  streamBytes,
  streamMemory,
  streamTokens,
  tileSizes,
} from '../../schemes/stream/stream.ts';
import { withBarriers, withTokens } from '../edits.ts';
import { atPlan, type Context, type Finding } from '../finding.ts';
import type { Issue } from '../issue.ts';
import type { StreamWeights } from '../plan.ts';

export function tokensOutOfRange(context: Context): Finding[] {
  const { plan, target } = context;
  const { tokens, weights } = plan.options;
  const allowed = weights.kind === 'stream' ? streamedTokens(context) : range(1, mostTokens(target));
  if (tokens === 'many' || allowed.includes(tokens) || allowed.length === 0) return [];
  const most = Math.max(...allowed);
  const legal = weights.kind === 'stream' ? (allowed.find((n) => n < tokens) ?? most) : most;
  return [
    {
      rule: 'tokens',
      ...atPlan(plan, 'tokens', String(tokens)),
      why:
        weights.kind === 'stream'
          ? whyNotStreamed(context, tokens)
          : `a pass has 1 to ${most} tokens on ${target.name}, not ${tokens}`,
      edits: [
        { text: `tokens: ${legal}`, plans: () => [withTokens(plan, legal)] },
        { text: `tokens: 'many'`, plans: () => [withTokens(plan, 'many')] },
      ],
    },
  ];
}

const groupOf = ({ graph }: Context): number => graph.dims.qHeads / graph.dims.kvHeads;

/** Tokens that a pass of a stream can have, from many to few: a block has room for the queries of so many. */
const streamedTokens = (context: Context): number[] =>
  streamTokens.filter((tokens) => groupOf(context) * tokens <= mostQueries);

function whyNotStreamed(context: Context, tokens: number): string {
  if (!streamTokens.includes(tokens)) {
    const [most, ...fewer] = streamTokens;
    return `a pass of a stream has ${fewer.toReversed().join(', ')} or ${most} tokens, not ${tokens}`;
  }
  const group = groupOf(context);
  return `${tokens} tokens with ${group} query heads a kv head are ${tokens * group} queries, and a block of a stream has room for ${mostQueries}`;
}

/** Asked last: only a plan that is legal otherwise has a schedule. */
export function overBudget(context: Context): Issue[] {
  const { graph, plan, target } = context;
  if (target.kind === 'cpu') return [];
  const { weights } = plan.options;
  if (weights.kind === 'stream') return streamOverBudget(context, weights);
  const library = libraryScratch(target);
  const bytes = (tokens: number) =>
    4 * assignWork(graph, withTokens(plan, tokens), target, library).scratchFloats + library.staticBytes;
  const wanted = plan.options.tokens === 'many' ? 1 : plan.options.tokens;
  const needed = bytes(wanted);
  if (needed <= target.sharedBytes) return [];
  const fewer = range(1, wanted - 1).findLast((tokens) => bytes(tokens) <= target.sharedBytes);
  const legal = fewer ? [`tokens: ${fewer}`, `tokens: 'many'`] : [];
  return [overBudgetIssue(context, wanted, passText(wanted), needed, legal)];
}

function streamOverBudget(context: Context, weights: StreamWeights): Issue[] {
  const { graph, plan, target } = context;
  const wanted = plan.options.tokens === 'many' ? 1 : plan.options.tokens;
  const bytes = (tokens: number, tile: number) => {
    const sized = { ...weights, tile };
    return streamBytes(streamMemory(graph.dims, target, sized, tokens), sized);
  };
  const fits = (tokens: number, tile: number) => bytes(tokens, tile) <= target.sharedBytes;
  const needed = bytes(wanted, weights.tile);
  if (needed <= target.sharedBytes) return [];
  const fewer = streamTokens.find((tokens) => tokens < wanted && fits(tokens, weights.tile));
  const smaller = tileSizes(graph.dims).findLast((tile) => tile < weights.tile && fits(wanted, tile));
  const barriers = withBarriers(context);
  const legal = [
    ...(fewer ? [`tokens: ${fewer}`, `tokens: 'many'`] : []),
    ...(smaller ? [`tile: ${smaller}`] : []),
    ...(barriers.plans().some((other) => overBudget({ ...context, plan: other }).length === 0)
      ? [barriers.text]
      : []),
  ];
  const what = `${passText(wanted)} with ${fewestSlots} slots of ${weights.tile / 1024} KiB`;
  return [overBudgetIssue(context, wanted, what, needed, legal)];
}

const passText = (tokens: number): string => `a pass of ${tokens === 1 ? '1 token' : `${tokens} tokens`}`;

function overBudgetIssue(
  { plan, target }: Context,
  wanted: number,
  what: string,
  needed: number,
  legal: readonly string[],
): Issue {
  const { at, call, token, argument, nth } =
    wanted > 1 ? atPlan(plan, 'tokens', String(wanted)) : atPlan(plan, 'name', plan.name);
  const why =
    `${what} needs ${Math.ceil(needed / 1024)} KiB of shared memory a block, ` +
    `and ${target.name} has ${target.sharedBytes / 1024}`;
  return { rule: 'shared-memory-over-budget', at, call, token, argument, nth, why, legal };
}

const mostTokens = (target: Target): number => (target.kind === 'cuda' ? 8 : 128);

const range = (first: number, last: number): number[] =>
  Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => first + i);
