// A backend that takes many steps in one request gets no more than may run, and stops behind a stop token.

import { describe, expect, it } from 'vitest';
import type { EngineSettings } from '../../runtime/engine/options.ts';
import { fakeEngines } from '../support/fake-engines.ts';
import { fakeReply, manySteps } from '../support/host-fake.ts';
import { read } from '../support/read-reply.ts';

const { fake, readyEngine } = await fakeEngines();

describe('a request of many steps', () => {
  const ready = (settings: Partial<EngineSettings> = {}) => readyEngine({ device: 2, ...settings });

  it('stands for as many passes, each waited for by itself', async () => {
    const engine = await ready();
    const { ids } = await read(engine.generate([1, 2, 3, 4, 5, 6], { maxTokens: 50 }));
    expect(ids).toEqual(fakeReply([1, 2, 3, 4, 5, 6], 50));
    // Two requests of the prompt, of which the second samples, and one of the 49 tokens left.
    expect(fake.work()).toEqual({ requests: 3, passes: 51, waits: 51 });
    expect(engine.position).toBe(6 + 50 - 1);
  });

  it('has no more steps than the backend takes', async () => {
    const engine = await ready();
    const maxTokens = 1 + 3 * manySteps + 1;
    const { ids } = await read(engine.generate([1], { maxTokens }));
    expect(ids).toEqual(fakeReply([1], maxTokens));
    expect(fake.work()).toEqual({ requests: 1 + 4, passes: maxTokens, waits: maxTokens });
  });

  it('has no more steps than positions are left', async () => {
    const engine = await ready({ context: 20 });
    const { ids, finish } = await read(engine.generate([1, 2, 3, 4], { maxTokens: 1000 }));
    expect({ ids, finish }).toEqual({ ids: fakeReply([1, 2, 3, 4], 17), finish: 'context' });
    expect(fake.work()).toEqual({ requests: 2, passes: 17, waits: 17 });
    expect(engine.position).toBe(20);
  });

  it('ends behind a stop token: the steps left are waited for, but do not run', async () => {
    const engine = await ready();
    const whole = fakeReply([5, 5, 5], 40);
    const stop = whole[20]!;
    const made = whole.indexOf(stop) + 1;
    expect(made).toBeGreaterThan(3);
    const { ids, finish } = await read(engine.generate([5, 5, 5], { maxTokens: 40, stopIds: [511, stop] }));
    expect({ ids, finish }).toEqual({ ids: whole.slice(0, made), finish: 'stop' });
    expect(fake.work()).toEqual({ requests: 2, passes: made, waits: 40 });
    expect(engine.position).toBe(3 + made - 1);
  });

  it('leaves no position behind when the prompt is followed by a stop token at once', async () => {
    const engine = await ready();
    const [stop] = fakeReply([5, 5, 5], 1) as [number];
    const { ids, finish } = await read(engine.generate([5, 5, 5], { maxTokens: 40, stopIds: [stop] }));
    expect({ ids, finish, position: engine.position }).toEqual({ ids: [stop], finish: 'stop', position: 3 });
    const { ids: next } = await read(engine.generate([stop, 1], { maxTokens: 3 }));
    expect(next).toEqual(fakeReply([5, 5, 5, stop, 1], 3));
  });

  it('ends soon when aborted, with a position for every token fed, and the next one runs whole', async () => {
    const engine = await ready();
    const abort = new AbortController();
    const prompt = [9, 1, 2];
    const seen: number[] = [];
    fake.allow(3);
    for await (const batch of engine.generate(prompt, { maxTokens: 60, signal: abort.signal })) {
      seen.push(...batch);
      if (seen.length >= 3) abort.abort();
    }
    expect(seen).toEqual(fakeReply(prompt, seen.length));
    const { passes, waits } = fake.work();
    expect(waits).toBe(60);
    expect(passes).toBe(seen.length + 1);
    // The pass that was under way at the abort has finished; its token is dropped.
    expect(engine.position).toBe(prompt.length + seen.length);
    engine.reset();
    const { ids } = await read(engine.generate([4], { maxTokens: 60 }));
    expect(ids).toEqual(fakeReply([4], 60));
    expect(fake.work()).toEqual({ requests: 4, passes: passes + 60, waits: 120 });
  });
});
