// Replies of an engine against plain loops over its own logits: bias, penalties, log probabilities.
import { expect } from 'vitest';
import type { Sampling } from '../../runtime/engine/bindings.ts';
import type { Engine } from '../../runtime/engine/engine.ts';
import { type GenerateOptions, greedy, type TokenLogprobs } from '../../runtime/engine/options.ts';
import { type Adjustments, adjustedLogits, logprobsOf, logprobTolerance } from './plain-choice.ts';
import { read } from './read-reply.ts';

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
    for (const { token, logprob } of [chosen, ...others]) {
      const exact = expected[token]!;
      expect(Math.abs(logprob - exact)).toBeLessThanOrEqual(logprobTolerance(exact));
    }
    const ranked = [...row.keys()].sort((a, b) => row[b]! - row[a]! || a - b);
    expect(others.map(({ token }) => token)).toEqual(ranked.slice(0, top));
  }
  return ids;
}

/** The words of a mask that allows these of `size` tokens. */
export function maskOf(ids: readonly number[], size: number): Int32Array {
  const words = new Int32Array(Math.ceil(size / 32));
  for (const id of ids) words[id >> 5]! |= 1 << (id & 31);
  return words;
}

/** That masked replies have the best of the allowed tokens by plain loops, and sampled ones none but allowed tokens.
 *  @param allowed before each token; null: any may come */
export async function expectMaskedChoices(
  engine: Pick<Engine, 'generate' | 'reset' | 'score' | 'vocab'>,
  prompt: readonly number[],
  allowed: readonly (readonly number[] | null)[],
  adjustments: Adjustments = {},
): Promise<void> {
  const { bias, repetition = 1, presence = 0, frequency = 0 } = adjustments;
  const reply = async (sampling: Partial<Sampling>) => {
    engine.reset(0);
    let at = 0;
    const next = () => {
      const ids = allowed[at++];
      return ids === undefined ? 'end' : ids && maskOf(ids, engine.vocab);
    };
    const penalties = {
      ...{ repetition_penalty: repetition, presence_penalty: presence, frequency_penalty: frequency },
    };
    const options = { maxTokens: 99, sampling: { ...greedy(engine.vocab), ...penalties, ...sampling }, bias };
    const { ids, finish } = await read(engine.generate(prompt, { ...options, mask: { next } }));
    expect([ids.length, finish]).toEqual([allowed.length, 'stop']);
    for (const [i, id] of ids.entries()) expect(allowed[i] ?? [id]).toContain(id);
    return ids;
  };
  for (const sampling of [{ top_k: 5 }, { top_p: 0.4 }, { min_p: 0.3 }, { top_k: 7, top_p: 0.9 }, {}]) {
    await reply({ temperature: 2, seed: 3, ...sampling });
  }
  // A top_k that is more than may be chosen leaves nothing out.
  if (allowed.every((ids) => ids !== null && ids.length < 7)) {
    for (const sampling of [{}, { top_p: 0.9 }]) {
      const drawn = { temperature: 2, seed: 4, ...sampling };
      expect(await reply({ ...drawn, top_k: 7 })).toEqual(await reply(drawn));
    }
  }
  const ids = await reply({});
  engine.reset(0);
  for (const [i, id] of ids.entries()) {
    const row = await (i === 0 ? engine.score(prompt, prompt.length - 1) : engine.score([ids[i - 1]!], 0));
    const adjusted = adjustedLogits(row, adjustments, prompt, ids.slice(0, i));
    const largest = (allowed[i] ?? [...adjusted.keys()])
      .map((one) => adjusted[one]!)
      .reduce((a, b) => Math.max(a, b));
    const magnitude = Math.max(Math.abs(largest), ...Object.values(bias ?? {}).map(Math.abs), 1);
    expect(largest - adjusted[id]!).toBeLessThanOrEqual(6 * 2 ** -24 * magnitude);
  }
}
