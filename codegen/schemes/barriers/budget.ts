// Rules about the size of a pass at barriers: its tokens, and the shared memory that they need.
import { ofBarriers, ofTokens, withTokens } from '../../plan/edits.ts';
import { atPlan, type Context, type Edit, type Finding } from '../../plan/finding.ts';
import type { BarriersScheme } from '../../plan/plan.ts';
import { overBudget, passText, upTo } from '../../plan/rules/size.ts';
import { libraryScratch } from './library-scratch.ts';
import { lowerBarriers, sharedBytes } from './lower.ts';
import { mostTokensOf, ringBytes, tuningOf } from './tuning.ts';

export function tokensOutOfRange(context: Context): Finding[] {
  const { plan, target } = context;
  const { tokens } = plan.scheme;
  const most = mostTokensOf(plan, target);
  if (tokens === 'many' || upTo(most).includes(tokens)) return [];
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
  const library = libraryScratch(tuningOf(plan, target));
  const bytes = (tokens: number) =>
    sharedBytes(library, lowerBarriers(graph, withTokens(plan, tokens), target, library).scratchFloats);
  const { tokens } = plan.scheme;
  const wanted = tokens === 'many' ? 1 : tokens;
  const needed = bytes(wanted);
  if (needed <= target.sharedBytes) return [];
  const fewer = upTo(wanted - 1).findLast((count) => bytes(count) <= target.sharedBytes);
  const edits = [
    ...(fewer ? [ofTokens(context, fewer), ofTokens(context, 'many')] : []),
    ...smallerBuffers(context, needed - target.sharedBytes),
  ];
  return [overBudget(context, wanted, passText(wanted), needed, edits)];
}

/** The fewest changes to the buffers of weights that make `excess` bytes fit. */
function smallerBuffers(context: Context, excess: number): Edit[] {
  const { plan, target } = context;
  const { scheme } = plan;
  if (scheme.kind !== 'barriers' || scheme.buffers === 0) return [];
  const bytes = (options: Partial<BarriersScheme>) =>
    ringBytes(tuningOf({ scheme: { ...scheme, ...options } }, target));
  const saves = (options: Partial<BarriersScheme>) => bytes({}) - bytes(options) >= excess;
  const buffers = upTo(scheme.buffers - 1).findLast((n) => saves({ buffers: n }));
  const loadsInFlight = upTo(scheme.loadsInFlight - 1).findLast((n) => saves({ loadsInFlight: n }));
  return [
    ...(buffers ? [ofBarriers(context, { buffers })] : []),
    ...(loadsInFlight ? [ofBarriers(context, { loadsInFlight })] : []),
    ofBarriers(context, { buffers: 0, producers: 0 }),
  ];
}
