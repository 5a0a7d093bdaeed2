// What an engine is verified with: the golden logits of a model, room for them, and the engine as something that scores.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { FusionPlan } from '../codegen/index.ts';
import type { ModelDims } from '../codegen/model/dims.ts';
import { OnelaunchError } from '../errors.ts';
import type { Engine } from '../runtime/engine/engine.ts';
import type { Golden } from '../runtime/verify/golden.ts';
import { longestCase } from '../runtime/verify/longest-case.ts';
import type { Scorer } from '../runtime/verify/scorers.ts';

/** Positions that the longest case takes. @throws OnelaunchError when fewer were asked for */
export function contextFor(golden: Golden, { maxPositions }: ModelDims, asked: number | undefined): number {
  const longest = longestCase(golden);
  const context = asked ?? Math.min(maxPositions, Math.max(longest, 256));
  if (longest <= context) return context;
  throw new OnelaunchError(
    'usage',
    `a case of the golden file has ${longest} tokens, the context holds ${context}`,
    { hint: `--context ${longest}` },
  );
}

/** The file that is named, else the one beside the weights, if there is one. */
export async function storedGolden(
  { vocab, weights, cache }: ModelDims,
  directory: string | null,
  functions: FusionPlan['functions'],
  path: string | undefined,
): Promise<Golden | null> {
  const { readGolden } = await import('../runtime/verify/golden.ts');
  if (path !== undefined) return readGolden(path, { vocab });
  const isChanged = Object.keys(functions).length > 0 || weights !== undefined || cache !== undefined;
  // What lies beside the weights is of the model with its own ops and numbers.
  const beside = directory === null || isChanged ? undefined : join(directory, 'golden.json');
  return beside !== undefined && existsSync(beside) ? readGolden(beside, { vocab }) : null;
}

/** The engine in the shape that verify scores. */
export function engineScorer(engine: Engine, signal: AbortSignal): Scorer {
  const { vocab } = engine;
  return {
    vocab,
    reset: () => engine.reset(0),
    score: (ids, first, onRows) =>
      engine.scoreRows(
        ids,
        first,
        (rows, token) => {
          for (let i = 0; i * vocab < rows.length; i++) {
            onRows(token + i, rows.subarray(i * vocab, (i + 1) * vocab));
          }
        },
        { signal },
      ),
    greedy: async (ids, n) => {
      const made: number[] = [];
      for await (const batch of engine.generate(ids, { maxTokens: n, signal })) made.push(...batch);
      signal.throwIfAborted();
      return made;
    },
  };
}
