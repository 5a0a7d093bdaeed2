// A golden file that was never written: a few short prompts through the unfused reference.

import type { ReferenceFormats } from '../runtime/reference/blocks.ts';
import type { CacheStorage, ReferenceOps } from '../runtime/reference/reference.ts';
import type { Golden, GoldenCase } from '../runtime/verify/golden.ts';
import { referenceScorer } from '../runtime/verify/scorers.ts';
import { breathe } from './breathe.ts';
import { promptOf } from './measure.ts';

/** Short, since the reference computes a token of a 0.6 B model in seconds. */
const promptTokens = [1, 6, 11];
const newTokens = 4;

/** In which numbers the reference computes, where they are not those of the model. */
export interface ReferenceNumbers {
  /** What the plan computes otherwise than the model. */
  readonly ops?: ReferenceOps;
  /** That matrices are rounded to. */
  readonly formats?: ReferenceFormats | undefined;
  /** That keys and values are rounded to, where they share scales: how much that loses hangs on the model, and is not for a kernel to answer. */
  readonly cache?: CacheStorage | undefined;
  /** The longest context of the kernel, where it is made for less than the model. */
  readonly maxPositions?: number | undefined;
}

/** Logits and tokens of the reference for the checkpoint in a directory.
 *  @param onProgress tokens done and in all; what it throws ends the work */
export async function referenceGolden(
  directory: string,
  onProgress: (done: number, total: number) => void = () => {},
  { ops = {}, formats, cache, maxPositions }: ReferenceNumbers = {},
): Promise<Golden> {
  const total = promptTokens.reduce((sum, tokens) => sum + 2 * (tokens + newTokens), 0);
  let done = 0;
  const pause = async () => {
    onProgress(done, total);
    await breathe();
  };
  const scorer = referenceScorer(directory, {
    ...{ ops, formats, maxPositions, pause },
    ...(cache && { storage: cache }),
  });
  const { vocab } = scorer;
  const cases: GoldenCase[] = [];
  for (const tokens of promptTokens) {
    const promptIds = promptOf(tokens, vocab);
    await pause();
    scorer.reset();
    const greedyIds = await scorer.greedy(promptIds, newTokens);
    done += tokens + newTokens;
    await pause();
    scorer.reset();
    const expected: { row: number; kind: 'full'; logits: Float32Array }[] = [];
    const margin: number[] = [];
    await scorer.score([...promptIds, ...greedyIds], tokens - 1, (row, logits) => {
      expected.push({ row, kind: 'full', logits: logits.slice() });
      if (row < tokens + newTokens - 1) margin.push(marginOf(logits));
    });
    done += tokens + newTokens;
    cases.push({ promptIds, greedyIds, margin, expected });
  }
  onProgress(done, total);
  const changed = Object.keys(ops);
  const withs = [
    ...(changed.length > 0 ? [`the plan's ${changed.join(', ')}`] : []),
    ...(formats ? [`weights rounded to ${[...new Set(Object.values(formats))].join(' and ')}`] : []),
    ...(cache ? [`keys and values rounded to ${cache}`] : []),
  ];
  const source = [
    'the built-in reference',
    ...(withs.length > 0 ? [`with ${withs.join(' and ')}`] : []),
  ].join(', ');
  return { source, vocab, decimals: null, nllDecimals: null, cases };
}

/** Best logit minus second best. */
function marginOf(logits: Float32Array): number {
  let best = Number.NEGATIVE_INFINITY;
  let second = Number.NEGATIVE_INFINITY;
  for (const value of logits) {
    if (value > best) [best, second] = [value, best];
    else if (value > second) second = value;
  }
  return best - second;
}
