// How much room golden logits ask for; apart from their reader, so that a command that only begins need not load it.
import type { Golden } from './golden.ts';

/** Tokens of the longest case, prompt and reply together. */
export const longestCase = ({ cases }: Golden): number =>
  Math.max(...cases.map(({ promptIds, greedyIds }) => promptIds.length + greedyIds.length));
