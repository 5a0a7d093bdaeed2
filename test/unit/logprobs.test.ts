// Log probabilities and biases through the host code, over a backend whose logits are known: by drafts, in passes of several, on every device.
import { describe, expect, it } from 'vitest';
import type { GenerateOptions, TokenLogprobs } from '../../runtime/engine/options.ts';
import type { Sequence } from '../../runtime/engine/sequence.ts';
import { backends, fakeEngines, greedy } from '../support/fake-engines.ts';
import { fakeLogits, fakeReply, tokens, vocab } from '../support/host-fake.ts';
import { logprobsOf, logprobTolerance } from '../support/plain-choice.ts';
import { read } from '../support/read-reply.ts';
import { failureOf } from '../support/refusal.ts';

const { readyEngine } = await fakeEngines();

/** A reply with its log probabilities. */
async function told(
  engine: Pick<Sequence, 'generate'>,
  ids: readonly number[],
  top: number,
  options: Partial<GenerateOptions> = {},
) {
  const logprobs: TokenLogprobs[] = [];
  const onLogprobs = (more: readonly TokenLogprobs[]) => logprobs.push(...more);
  const reply = await read(
    engine.generate(ids, { maxTokens: 30, ...options, logprobs: { top, onLogprobs } }),
  );
  return { ...reply, logprobs };
}

/** Whether an array of log probabilities names the tokens of another, as likely as those. */
function expectTold(logprobs: readonly TokenLogprobs[], others: readonly TokenLogprobs[]) {
  const all = (told: readonly TokenLogprobs[]) => told.flatMap(({ top, ...chosen }) => [chosen, ...top]);
  expect(all(logprobs).map(({ token }) => token)).toEqual(all(others).map(({ token }) => token));
  expect(logprobs.map(({ top }) => top.length)).toEqual(others.map(({ top }) => top.length));
  const known = all(others);
  const errors = all(logprobs).map(({ logprob }, i) => {
    const exact = known[i]!.logprob;
    return Math.abs(logprob - exact) / logprobTolerance(exact);
  });
  expect(Math.max(...errors)).toBeLessThan(1);
}

/** What plain loops in double say of the same tokens. */
const expected = (prompt: readonly number[], ids: readonly number[], top: number, rows = vocab) =>
  ids.map((token, i) => {
    const logprobs = logprobsOf(fakeLogits([...prompt, ...ids.slice(0, i)]));
    const ranked = [...logprobs.keys()]
      .filter((id) => id < rows)
      .sort((a, b) => logprobs[b]! - logprobs[a]! || a - b);
    const of = (id: number) => ({ token: id, logprob: logprobs[id]! });
    return { ...of(token), top: ranked.slice(0, top).map(of) };
  });

describe.each(backends)('an engine over %s', (_, device) => {
  it.each([0, 1, 20])('tells the log probability of each token, and of %i others', async (top) => {
    const engine = await readyEngine({ device });
    const prompt = Array.from({ length: 70 }, (_, i) => i);
    const { ids, logprobs } = await told(engine, prompt, top);
    expect(ids).toEqual(fakeReply(prompt, 30));
    expectTold(logprobs, expected(prompt, ids, top));
  });

  it('forces a token by its bias, whose log probability is what it was, in that reply alone', async () => {
    const engine = await readyEngine({ device });
    const { ids, logprobs } = await told(engine, [1, 2], 1, { maxTokens: 5, bias: { 9: 100, 8: -100 } });
    expect(ids).toEqual([9, 9, 9, 9, 9]);
    expectTold(logprobs, expected([1, 2], ids, 1));
    engine.reset(0);
    expect((await told(engine, [1, 2], 0, { maxTokens: 5 })).ids).toEqual(fakeReply([1, 2], 5));
  });
});

describe('log probabilities', () => {
  it('of tokens that were drafts are of their own rows', async () => {
    const engine = await readyEngine({ device: 0 });
    const sampling = { ...greedy, temperature: 1, top_k: 5 }; // repeats after 5 tokens
    const prompt = [1, 2, 3];
    const { ids, logprobs, accepted } = await told(engine, prompt, 2, {
      ...{ maxTokens: 60, sampling, speculate: { tokens: 3 } },
    });
    expect(accepted).toBeGreaterThan(10);
    expectTold(logprobs, expected(prompt, ids, 2));
  });

  it('of sequences that share passes are their own, also beside some that want none', async () => {
    const engine = await readyEngine({ device: 0, sequences: 4 });
    const one = async (number: number) => {
      await using sequence = engine.open();
      const prompt = [number, 7];
      if (number === 2) return await read(sequence.generate(prompt, { maxTokens: 30 }));
      const { ids, logprobs } = await told(sequence, prompt, number);
      expectTold(logprobs, expected(prompt, ids, number));
      return { ids };
    };
    const replies = await Promise.all([0, 1, 2, 3].map(one));
    expect(replies.map(({ ids }) => ids)).toEqual([0, 1, 2, 3].map((number) => fakeReply([number, 7], 30)));
  });

  it('name no row that has no token', async () => {
    const engine = await readyEngine({ device: 1 });
    const sampling = { ...greedy, vocab: 300 };
    const { ids, logprobs } = await told(engine, [1], 20, { sampling });
    expectTold(logprobs, expected([1], ids, 20, 300));
  });

  it('of a row with NaN end the reply', async () => {
    const engine = await readyEngine({ device: 1 });
    const error = await failureOf(told(engine, [1, tokens.nan], 1));
    expect(error.message).toBe('the logits are not finite at position 1');
  });
});
