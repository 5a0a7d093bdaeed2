// Replies of an engine against plain loops over its own logits: bias, penalties, log probabilities.
import { expect } from 'vitest';
import type { Sampling } from '../../runtime/bindings.ts';
import type { Engine } from '../../runtime/engine.ts';
import type { GenerateOptions, TokenLogprobs } from '../../runtime/engine-options.ts';
import { type Adjustments, adjustedLogits, logprobsOf } from './plain-choice.ts';
import { read } from './read-reply.ts';

export const greedy = (vocab: number): Sampling => ({
  ...{ temperature: 0, top_k: 0, top_p: 1, min_p: 0 },
  ...{ repetition_penalty: 1, presence_penalty: 0, frequency_penalty: 0, seed: 0, vocab },
});

/** A reply with its log probabilities, from the first position on. */
export async function replyWithLogprobs(
  engine: Pick<Engine, 'generate' | 'reset'>,
  prompt: readonly number[],
  { top, ...options }: GenerateOptions & { readonly top: number },
) {
  const logprobs: TokenLogprobs[] = [];
  const onLogprobs = (more: readonly TokenLogprobs[]) => logprobs.push(...more);
  engine.reset(0);
  const { ids } = await read(engine.generate(prompt, { ...options, logprobs: { top, onLogprobs } }));
  return { ids, logprobs };
}

/** That a greedy reply is what plain loops choose from the logits that single passes give, and its log probabilities what they compute. */
export async function expectPlainChoices(
  engine: Pick<Engine, 'generate' | 'reset' | 'score' | 'vocab'>,
  prompt: readonly number[],
  maxTokens: number,
  adjustments: Adjustments,
): Promise<readonly number[]> {
  const { bias, repetition = 1, presence = 0, frequency = 0 } = adjustments;
  const sampling = {
    ...greedy(engine.vocab),
    ...{ repetition_penalty: repetition, presence_penalty: presence, frequency_penalty: frequency },
  };
  const top = 3;
  const { ids, logprobs } = await replyWithLogprobs(engine, prompt, { maxTokens, sampling, bias, top });
  expect(ids.length).toBe(maxTokens);
  // What is there without log probabilities: a stream then keeps no logits, and runs ahead.
  engine.reset(0);
  expect((await read(engine.generate(prompt, { maxTokens, sampling, bias }))).ids).toEqual(ids);
  engine.reset(0);
  for (const [i, id] of ids.entries()) {
    const row = await (i === 0 ? engine.score(prompt, prompt.length - 1) : engine.score([ids[i - 1]!], 0));
    const adjusted = adjustedLogits(row, adjustments, prompt, ids.slice(0, i));
    const largest = adjusted.reduce((a, b) => Math.max(a, b));
    // Sampled in float32: bias, quotient and difference each round once, two numbers each.
    const magnitude = Math.max(Math.abs(largest), ...Object.values(bias ?? {}).map(Math.abs), 1);
    expect(largest - adjusted[id]!).toBeLessThanOrEqual(6 * 2 ** -24 * magnitude);

    const expected = logprobsOf(row);
    const { top: others, ...chosen } = logprobs[i]!;
    expect(chosen.token).toBe(id);
    // A float32 of sums of doubles.
    for (const { token, logprob } of [chosen, ...others]) {
      expect(Math.abs(logprob - expected[token]!)).toBeLessThanOrEqual(2 ** -23 * Math.abs(expected[token]!));
    }
    const ranked = [...row.keys()].sort((a, b) => row[b]! - row[a]! || a - b);
    expect(others.map(({ token }) => token)).toEqual(ranked.slice(0, top));
  }
  return ids;
}
