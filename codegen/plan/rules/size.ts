// What a plan that needs too much shared memory is told, whatever its scheme.
import { atPlan, type Context, type Edit, type Finding } from '../finding.ts';

export const passText = (tokens: number): string =>
  `a pass of ${tokens === 1 ? '1 token' : `${tokens} tokens`}`;

export function overBudget(
  { plan, target }: Context,
  wanted: number,
  what: string,
  needed: number,
  edits: readonly Edit[],
): Finding {
  const place = wanted > 1 ? atPlan(plan, 'tokens', String(wanted)) : atPlan(plan, 'name', plan.name);
  const why =
    `${what} needs ${Math.ceil(needed / 1024)} KiB of shared memory a block, ` +
    `and ${target.name} has ${wholeKibibytes(target.sharedBytes)}`;
  return { rule: 'shared-memory-over-budget', ...place, why, edits };
}

const wholeKibibytes = (bytes: number): string =>
  bytes < 1024 ? 'less than 1' : String(Math.floor(bytes / 1024));

/** 1 to last; nothing below that. */
export const upTo = (last: number): number[] => Array.from({ length: Math.max(0, last) }, (_, i) => i + 1);
