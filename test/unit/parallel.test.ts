// A model that replies to several at a time, over the fake backend: each says what it says alone.
import { describe, expect, it, vi } from 'vitest';
import { greedy } from '../../runtime/generation-config.ts';
import { LanguageModel } from '../../runtime/model.ts';
import { fakeEngines } from '../support/fake-engines.ts';
import { fakeReply, tokens } from '../support/host-fake.ts';
import { failureOf } from '../support/refusal.ts';

const { fake, readyEngine } = await fakeEngines();

async function ready(parallel: number, { context = 256, queue }: { context?: number; queue?: number } = {}) {
  const engine = await readyEngine({ device: 1, sequences: parallel, context });
  const sequences = Array.from({ length: parallel }, () => engine.open());
  const parts = {
    ...{ engine, sequences, queue },
    manifest: fake.manifest,
    defaults: greedy,
    tokenizer: null,
    template: null,
  };
  return new LanguageModel(parts);
}
/** A turn of the event loop: what was begun has asked the engine, and what was ended has told it. */
const turn = () => new Promise((resolve) => setImmediate(resolve));
const say = (llm: LanguageModel, ids: readonly number[], maxTokens: number) =>
  llm.generate(ids, { maxTokens, seed: 0 }).result();

describe('a model with several places', () => {
  it('replies to as many at a time, each as if it were alone, and to no more', async () => {
    const llm = await ready(3, { queue: 0 });
    expect(llm.parallel).toBe(3);
    const prompts = [[1], [2, 3, 4], Array.from({ length: 40 }, (_, i) => i)];
    const replies = prompts.map((prompt) => say(llm, prompt, 30));
    const error = await failureOf(say(llm, [5], 1));
    expect([error.kind, error.message]).toEqual([
      'usage',
      'the model is busy with 3 replies, as many as it was loaded for',
    ]);
    const made = await Promise.all(replies);
    expect(made.map((reply) => reply.tokens)).toEqual(prompts.map((prompt) => fakeReply(prompt, 30)));
    expect((await say(llm, [5], 4)).tokens).toEqual(fakeReply([5], 4));
  });

  it('goes on where most of a prompt is held, else in the place that was used longest ago', async () => {
    const llm = await ready(2);
    const first = await say(llm, [1, 2, 3], 4);
    const other = await say(llm, [7, 8], 4);
    expect([first.usage.cached, other.usage.cached]).toEqual([0, 0]);
    const longer = [1, 2, 3, ...first.tokens, 9];
    const again = await say(llm, longer, 4);
    expect(again.usage.cached).toBe(6);
    expect(again.tokens).toEqual(fakeReply(longer, 4));
    expect((await say(llm, [7, 8, ...other.tokens.slice(0, 2), 5], 4)).usage.cached).toBe(4);
    // [1, 2, ...] is the older one now.
    await say(llm, [50, 51], 1);
    expect((await say(llm, [7, 8, 9], 1)).usage.cached).toBe(2);
  });

  it('tells who waits in the loop over a reply, which would never end', async () => {
    const llm = await ready(1);
    // So slow that it is not done before it is read on.
    const outer = llm.generate([tokens.slow, 1], { maxTokens: 200, seed: 0 })[Symbol.asyncIterator]();
    await outer.next();
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] });
    try {
      const inner = failureOf(say(llm, [2], 1));
      await turn();
      vi.advanceTimersByTime(8000);
      await outer.next();
      vi.advanceTimersByTime(8000);
      await turn();
      const soon = await Promise.race([inner, turn()]);
      expect(soon).toBeUndefined();
      vi.advanceTimersByTime(8000);
      expect((await inner).message).toBe('the model is busy with a reply that nobody reads on');
    } finally {
      vi.useRealTimers();
    }
    await outer.return();
    expect((await say(llm, [2], 3)).tokens).toEqual(fakeReply([2], 3));
  });

  it('scores beside a reply', async () => {
    const llm = await ready(2);
    const replying = say(llm, [tokens.slow, 1], 6);
    const { logprobs } = await llm.score([4, 5, 6]);
    expect(logprobs).toEqual((await llm.score([4, 5, 6])).logprobs);
    expect((await say(llm, [4, 5, 6, 7], 2)).usage.cached).toBe(3);
    expect((await replying).tokens).toEqual(fakeReply([tokens.slow, 1], 6));
  });

  it('ends one reply by its signal or its reader, and lets the others go on', async () => {
    const llm = await ready(3);
    fake.allow(0);
    const whole = say(llm, [1], 12);
    const stop = new AbortController();
    const aborted = llm.generate([2], { maxTokens: 200, signal: stop.signal }).result();
    const left = llm.generate([3], { maxTokens: 200 })[Symbol.asyncIterator]();
    const begun = left.next();
    await turn();
    fake.allow(8);
    await begun;
    const leaving = left.return();
    stop.abort();
    await turn();
    fake.allow(Number.POSITIVE_INFINITY);
    await leaving;
    expect((await aborted).finish).toBe('abort');
    const next = await say(llm, [2, 4], 3);
    expect(next.tokens).toEqual(fakeReply([2, 4], 3));
    expect((await whole).tokens).toEqual(fakeReply([1], 12));
  });

  it('ends all replies when it is closed', async () => {
    const llm = await ready(2);
    const replies = [1, 2].map((id) => llm.generate([id], { maxTokens: 200 }));
    const iterators = replies.map((reply) => reply[Symbol.asyncIterator]());
    fake.allow(0);
    const begun = iterators.map((iterator) => iterator.next());
    await turn();
    fake.allow(8);
    await Promise.all(begun);
    await llm.close();
    expect(fake.alive()).toBe(0);
    for (const iterator of iterators) {
      let last = await iterator.next();
      while (!last.done) last = await iterator.next();
      expect(last.value).toMatchObject({ finish: 'abort' });
    }
  });

  it('drafts where it is alone', async () => {
    const llm = await ready(2);
    const prompt = [4, 4, 4, 4, 4, 4];
    const options = { maxTokens: 40, seed: 0, temperature: 1, topK: 1 };
    const plain = await llm.generate(prompt, { ...options, speculate: 'off' }).result();
    const checked = await llm.generate(prompt, { ...options, speculate: { tokens: 3 } }).result();
    expect(checked.tokens).toEqual(plain.tokens);
    expect(plain.usage.drafted).toBe(0);
    expect(checked.usage.drafted).toBeGreaterThan(0);
  });

  it('replies on after a pass that failed for one', async () => {
    const llm = await ready(2);
    const whole = say(llm, [tokens.slow, 1], 6);
    expect((await failureOf(say(llm, [9, tokens.nan], 5))).message).toContain('not finite');
    expect((await say(llm, [9, 8], 3)).tokens).toEqual(fakeReply([9, 8], 3));
    expect((await whole).tokens).toEqual(fakeReply([tokens.slow, 1], 6));
  });
});

describe('more replies than places', () => {
  it.each([1, 2])('wait their turn, in their order, over %i', async (parallel) => {
    const llm = await ready(parallel);
    const ended: number[] = [];
    const all = [1, 2, 3, 4, 5, 6].map(async (id) => {
      // Longer ones first: those behind them begin as soon as there is room, and no sooner.
      const made = await say(llm, [id], 14 - 2 * id);
      ended.push(id);
      return made.tokens;
    });
    expect(await Promise.all(all)).toEqual([1, 2, 3, 4, 5, 6].map((id) => fakeReply([id], 14 - 2 * id)));
    if (parallel === 1) expect(ended).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it('end while they wait, by their signal or the end of the model, and have said nothing', async () => {
    const llm = await ready(1);
    fake.allow(0);
    const first = say(llm, [1], 12);
    const stop = new AbortController();
    const aborted = llm.generate([2], { signal: stop.signal }).result();
    const scored = llm.score([4, 5], { signal: stop.signal });
    const next = say(llm, [3], 3);
    await turn();
    stop.abort(new Error('gone'));
    expect(await aborted).toMatchObject({ finish: 'abort', text: '', tokens: [], usage: { prompt: 1 } });
    await expect(scored).rejects.toThrow('gone');
    fake.allow(Number.POSITIVE_INFINITY);
    expect((await first).tokens).toEqual(fakeReply([1], 12));
    expect((await next).tokens).toEqual(fakeReply([3], 3));

    fake.allow(0);
    const running = say(llm, [1], 12);
    const waiting = say(llm, [2], 12);
    const late = llm.score([4, 5]);
    const told = expect(late).rejects.toThrow('aborted');
    await turn();
    await llm.close();
    expect([(await running).finish, (await waiting).finish]).toEqual(['abort', 'abort']);
    await told;
  });

  it('are refused when as many wait as may, and those that waited go on', async () => {
    const llm = await ready(2, { queue: 1 });
    const replies = [1, 2, 3].map((id) => say(llm, [id], 8));
    const error = await failureOf(say(llm, [4], 1));
    expect(error.message).toBe(
      'the model is busy with 2 replies, as many as it was loaded for, and 1 wait, as many as may',
    );
    expect((await Promise.all(replies)).map((reply) => reply.tokens)).toEqual(
      [1, 2, 3].map((id) => fakeReply([id], 8)),
    );
    expect((await say(llm, [4], 2)).tokens).toEqual(fakeReply([4], 2));
  });

  it('come up when one before them fails', async () => {
    const llm = await ready(1);
    const failing = failureOf(say(llm, [9, tokens.nan], 5));
    const next = say(llm, [9, 8], 3);
    expect((await failing).message).toContain('not finite');
    expect((await next).tokens).toEqual(fakeReply([9, 8], 3));
  });
});
