// How likely a model finds a text: the log probability of each token after those before it.
import type { Engine } from './engine/engine.ts';
import { logSumExp } from './verify/verify.ts';

/** How likely a model finds a text. */
export interface TextScore {
  /** The tokens of the text, the first included. */
  readonly tokens: readonly number[];
  /** Natural log of the probability of tokens 1, 2, ... each given all before it; the first has none. */
  readonly logprobs: readonly number[];
  /** Negative log likelihood [nats]: minus the sum of logprobs. */
  readonly nll: number;
  /** exp(nll / logprobs.length). */
  readonly perplexity: number;
}

/** Scores tokens from position 0 on, which the engine is at.
 *  @param tokens two or more
 *  @throws OnelaunchError; the signal's reason when aborted */
export async function likelihood(
  engine: Pick<Engine, 'vocab' | 'scoreRows'>,
  tokens: readonly number[],
  signal?: AbortSignal,
): Promise<TextScore> {
  const logprobs: number[] = [];
  const { vocab } = engine;
  const take = (rows: Float32Array, first: number) => {
    for (let i = 0; i * vocab < rows.length && first + i + 1 < tokens.length; i++) {
      const logits = rows.subarray(i * vocab, (i + 1) * vocab);
      logprobs.push(logits[tokens[first + i + 1]!]! - logSumExp(logits));
    }
  };
  await engine.scoreRows(tokens, 0, take, { signal });
  const nll = -logprobs.reduce((sum, logprob) => sum + logprob, 0);
  return { tokens, logprobs, nll, perplexity: Math.exp(nll / logprobs.length) };
}
