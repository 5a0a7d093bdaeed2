// What an engine replies, where it ends, and what it holds then; over a backend that stands in for a model.

import { describe, expect, it } from 'vitest';
import type { Engine } from '../../runtime/engine/engine.ts';
import type { EngineSettings } from '../../runtime/engine/options.ts';
import { backends, fakeEngines, greedy } from '../support/fake-engines.ts';
import { fakeHashes, fakePenalisedReply, fakeReply } from '../support/host-fake.ts';
import { read } from '../support/read-reply.ts';
import { failureOf } from '../support/refusal.ts';
import { within } from '../support/within.ts';

const { fake, readyEngine } = await fakeEngines();

describe.each(backends)('an engine over %s', (_, device) => {
  const ready = (settings: Partial<EngineSettings> = {}) => readyEngine({ device, ...settings });

  it('streams the reply of the model', async () => {
    const engine = await ready();
    const { ids, finish, timings } = await read(engine.generate([1, 2, 3, 4, 5, 6], { maxTokens: 50 }));
    expect(ids).toEqual(fakeReply([1, 2, 3, 4, 5, 6], 50));
    expect(finish).toBe('length');
    expect(timings.prefillMs).toBeGreaterThan(0);
    expect(timings.decodeMs).toBeGreaterThan(0);
  });

  it('delivers every token when it is made, not later', async () => {
    const engine = await ready();
    const reply = engine.generate([9], { maxTokens: 6 });
    for (const id of fakeReply([9], 6)) {
      fake.allow(1);
      expect(await within(reply.next(), () => 'the token of a pass')).toEqual({ value: [id], done: false });
    }
  });

  it('counts a position for every token fed, and none for the last token of a reply', async () => {
    const engine = await ready();
    await read(engine.generate([1, 2, 3, 4, 5], { maxTokens: 7 }));
    expect(engine.position).toBe(5 + 7 - 1);
  });

  it('goes on where a reply ended when the next prompt begins with its last token', async () => {
    const engine = await ready();
    const { ids: first } = await read(engine.generate([1, 2, 3], { maxTokens: 5 }));
    const next = [...first.slice(-1), 9, 8, 7, 6, 5];
    const { ids: second } = await read(engine.generate(next, { maxTokens: 5 }));
    expect(second).toEqual(fakeReply([1, 2, 3, ...first.slice(0, -1), ...next], 5));
  });

  it('forgets what comes after a reset', async () => {
    const engine = await ready();
    await read(engine.generate([1, 2, 3, 4, 5], { maxTokens: 9 }));
    engine.reset(2);
    expect(engine.position).toBe(2);
    const { ids } = await read(engine.generate([30, 31], { maxTokens: 4 }));
    expect(ids).toEqual(fakeReply([1, 2, 30, 31], 4));
    engine.reset();
    expect(engine.position).toBe(0);
  });

  it('ends with the stop token, whose successors in flight are dropped', async () => {
    const engine = await ready();
    const whole = fakeReply([5, 5, 5], 40);
    const at = 20;
    const stop = whole[at]!;
    const until = whole.indexOf(stop);
    const { ids, finish } = await read(engine.generate([5, 5, 5], { maxTokens: 40, stopIds: [511, stop] }));
    expect(ids).toEqual(whole.slice(0, until + 1));
    expect(finish).toBe('stop');
    expect(engine.position).toBe(3 + until);
    // What was in flight beyond the stop must not be seen by what follows.
    const { ids: next } = await read(engine.generate([stop, 1], { maxTokens: 3 }));
    expect(next).toEqual(fakeReply([5, 5, 5, ...ids, 1], 3));
  });

  it.each([1, 2, 3, 4])('makes exactly %i tokens when asked for as many', async (maxTokens) => {
    const engine = await ready();
    const { ids, finish } = await read(engine.generate([1, 2, 3, 4], { maxTokens }));
    expect(ids).toEqual(fakeReply([1, 2, 3, 4], maxTokens));
    expect(finish).toBe('length');
  });

  it('ends at the end of the context, with all positions used', async () => {
    const engine = await ready({ context: 20 });
    const { ids, finish } = await read(engine.generate([1, 2, 3, 4, 5, 6], { maxTokens: 1000 }));
    expect(ids).toEqual(fakeReply([1, 2, 3, 4, 5, 6], 15));
    expect(finish).toBe('context');
    expect(engine.position).toBe(20);
  });

  it('takes a prompt as long as the context, for one token', async () => {
    const engine = await ready({ context: 6 });
    const { ids, finish } = await read(engine.generate([1, 2, 3, 4, 5, 6], { maxTokens: 5 }));
    expect(ids).toEqual(fakeReply([1, 2, 3, 4, 5, 6], 1));
    expect(finish).toBe('context');
  });

  it('refuses a prompt longer than what is left, with the numbers', async () => {
    const engine = await ready({ context: 6 });
    await read(engine.generate([1, 2], { maxTokens: 1 }));
    const error = await failureOf(read(engine.generate([1, 2, 3, 4, 5], { maxTokens: 1 })));
    expect(error.message).toBe('5 tokens do not fit: 2 of 6 positions are in use');
    expect(error.kind).toBe('usage');
    expect(engine.position).toBe(2);
  });

  it('hands the sampling settings over, all 64 bits of the seed', async () => {
    const engine = await ready();
    const sampling = { ...greedy, seed: 2n ** 63n + 77n };
    const { ids } = await read(engine.generate([1, 2], { maxTokens: 5, sampling }));
    expect(ids).toEqual(fakeReply([1, 2], 5, 77));
  });

  it('applies penalties to the tokens of prompt, reply and earlier turns', async () => {
    const engine = await ready();
    const sampling = { ...greedy, repetition_penalty: 2 };
    const { ids: first } = await read(engine.generate([1, 2, 2], { maxTokens: 5, sampling }));
    expect(first).toEqual(fakePenalisedReply([1, 2, 2], 5));
    engine.reset(5);
    const { ids: second } = await read(engine.generate([9], { maxTokens: 5, sampling }));
    expect(second).toEqual(fakePenalisedReply([1, 2, 2, ...first.slice(0, 2), 9], 5));
  });

  it.each([
    [{}, 0],
    [{ repetition_penalty: 2 }, 1],
    [{ presence_penalty: 0.1 }, 1],
  ])('gives the backend counts where penalties read them: %j', async (penalties, times) => {
    for (const open of [async (engine: Engine) => engine, (engine: Engine) => engine.open()]) {
      const engine = await ready({ sequences: 2 });
      const sequence = await open(engine);
      await read(sequence.generate([1, 2, 2], { maxTokens: 5, sampling: { ...greedy, ...penalties } }));
      expect(fake.counted()).toBe(times);
    }
  });

  it('keeps a device busy with requests ahead, and a host without any', async () => {
    const engine = await ready();
    await read(engine.generate([1], { maxTokens: 30 }));
    // With many steps in a request, the prompt and all that follows are two.
    expect(fake.mostOutstanding()).toBe([1, 3, 2, 3][device]);
  });

  it('runs beside other engines', async () => {
    const engines = [await ready(), await ready(), await ready()];
    const replies = await Promise.all(
      engines.map((engine, i) => read(engine.generate([i], { maxTokens: 100 }))),
    );
    expect(replies.map((reply) => reply.ids)).toEqual(engines.map((_e, i) => fakeReply([i], 100)));
  });

  it('makes 10,000 tokens, whatever the reader does', async () => {
    const engine = await ready({ context: 10_001 });
    const reply = engine.generate([1, 2], { maxTokens: 10_000 });
    const first = await reply.next();
    // The reader sleeps; the tokens wait.
    await new Promise((resolve) => setTimeout(resolve, 300));
    const { ids } = await read(reply);
    const all = [1, 2, ...(first.value as number[]), ...ids];
    expect(all.length).toBe(10_002);
    const hashes = fakeHashes(all);
    expect(all.slice(2)).toEqual(hashes.slice(1, -1).map((hash) => hash % 256));
  });

  it('says what it runs on', async () => {
    expect((await ready()).device).toBe(device === 0 ? 'fake host' : `fake device ${device}`);
  });
});
