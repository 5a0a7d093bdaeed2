// Jobs that end before their end: aborted, left, closed, or failed by the backend; and the next one is whole.

import { describe, expect, it } from 'vitest';
import { Engine } from '../../runtime/engine/engine.ts';
import type { EngineSettings } from '../../runtime/engine/options.ts';
import { backends, fakeEngines, randomSources } from '../support/fake-engines.ts';
import { fakeReply, tokens } from '../support/host-fake.ts';
import { read } from '../support/read-reply.ts';
import { failureOf } from '../support/refusal.ts';

const { abortAfter, fake, readyEngine } = await fakeEngines();

describe.each(backends)('an engine over %s', (_, device) => {
  const ready = (settings: Partial<EngineSettings> = {}) => readyEngine({ device, ...settings });

  it('stops within a token when aborted, and is free for the next reply', async () => {
    const engine = await ready();
    const abort = new AbortController();
    const reply = engine.generate([9, 1, 2], { maxTokens: 200, signal: abort.signal });
    fake.allow(1);
    await reply.next();
    abort.abort();
    const { ids, finish } = await read(reply);
    expect(finish).toBe('abort');
    expect(ids.length).toBeLessThanOrEqual(1);
    // The prompt, and a token of each pass: three are in flight at most.
    expect(engine.position).toBeLessThanOrEqual(3 + 3);
    engine.reset(0);
    expect((await read(engine.generate([4], { maxTokens: 3 }))).ids).toEqual(fakeReply([4], 3));
  });

  it('stops a long prompt too, and keeps the positions it computed', async () => {
    const engine = await ready({ context: 700 });
    const prompt = Array.from({ length: 600 }, (_, i) => i % 256); // ten passes or more
    const signal = abortAfter(2);
    const { ids, finish } = await read(engine.generate(prompt, { maxTokens: 5, signal }));
    expect({ ids, finish }).toEqual({ ids: [], finish: 'abort' });
    expect(engine.position).toBeGreaterThan(0);
    expect(engine.position).toBeLessThan(600);
    expect(engine.position % 4).toBe(0);
  });

  it('does not start a reply whose signal is already aborted', async () => {
    const engine = await ready();
    const { ids, finish } = await read(
      engine.generate([1, 2], { maxTokens: 5, signal: AbortSignal.abort() }),
    );
    expect({ ids, finish, position: engine.position }).toEqual({ ids: [], finish: 'abort', position: 0 });
    expect((await read(engine.generate([4], { maxTokens: 3 }))).ids).toEqual(fakeReply([4], 3));
  });

  it('stops the job when the loop is left early', async () => {
    const engine = await ready();
    fake.allow(1);
    for await (const batch of engine.generate([9], { maxTokens: 200 })) {
      expect(batch.length).toBeGreaterThan(0);
      break;
    }
    expect(engine.position).toBeLessThanOrEqual(1 + 3);
    engine.reset();
    expect((await read(engine.generate([4], { maxTokens: 3 }))).ids).toEqual(fakeReply([4], 3));
  });

  it('refuses a second job while one runs, and the first is not disturbed', async () => {
    const engine = await ready();
    const first = engine.generate([9], { maxTokens: 4 });
    fake.allow(1);
    const batch = await first.next();
    for (const second of [
      () => read(engine.generate([1], { maxTokens: 1 })),
      () => engine.score([1], 0),
      () => engine.load(randomSources()),
      async () => engine.reset(),
    ]) {
      const error = await failureOf(second());
      expect(error.message).toContain('busy');
      expect(error.kind).toBe('usage');
    }
    fake.allow(Number.POSITIVE_INFINITY);
    const rest = await read(first);
    expect([...(batch.value as number[]), ...rest.ids]).toEqual(fakeReply([9], 4));
  });

  it('refuses one between two blocks of a score, where the library has no job', async () => {
    const engine = await ready();
    let seen = 0;
    const rows = async () => {
      const error = await failureOf(read(engine.generate([1], { maxTokens: 1 })));
      expect(error.message).toContain('busy with another job');
      seen++;
    };
    await engine.scoreRows([9, 8, 7], 0, rows);
    expect(seen).toBeGreaterThan(0);
    expect(engine.position).toBe(3);
  });

  it('ends the iteration with an error when closed in the middle', async () => {
    const engine = await ready();
    const reply = engine.generate([9], { maxTokens: 200 });
    fake.allow(1);
    await reply.next();
    const rest = failureOf(read(reply));
    engine.close();
    expect((await rest).message).toBe('the engine was closed during this job');
    expect(fake.alive()).toBe(0);
    engine.close();
    expect((await failureOf(read(engine.generate([1], { maxTokens: 1 })))).message).toBe(
      'the engine is closed',
    );
    expect(() => engine.reset(0)).toThrow('the engine is closed');
  });

  it('is closed by the end of its scope, also during a job', async () => {
    const reply = await (async () => {
      await using engine = await Engine.open(fake.path, fake.manifest, { context: 64, device });
      await engine.load(randomSources());
      const inner = engine.generate([9], { maxTokens: 50 });
      fake.allow(1);
      await inner.next();
      return inner;
    })();
    expect(fake.alive()).toBe(0);
    await read(reply).catch(() => {});
  });

  it('names the stage that failed, after the tokens before it', async () => {
    const engine = await ready();
    const error = await failureOf(
      read(engine.generate([...Array(13).fill(1), tokens.fail], { maxTokens: 5 })),
    );
    expect(error.message).toBe('ffn_down: the fake device gave up');
    expect(error.stage).toBe('ffn_down');
    expect(error.kind).toBe('failed');
    // Passes have four tokens; a prompt with kernels of its own is one request.
    expect(engine.position).toBe(device === 3 ? 0 : 12);
    engine.reset(0);
    expect((await read(engine.generate([4], { maxTokens: 3 }))).ids).toEqual(fakeReply([4], 3));
  });

  it.each([
    ['refuses a pass', tokens.refuse, 'no memory for this pass', 'environment'],
    ['throws', tokens.throws, 'the fake backend threw', 'failed'],
    ['finds a logit that is no number', tokens.nan, 'the logits are not finite at position 5', 'failed'],
    ['samples no token', tokens.rogue, 'sampled 517, which is no token', 'failed'],
  ])('survives a backend that %s', async (_what, token, message, kind) => {
    const engine = await ready();
    const error = await failureOf(read(engine.generate([1, 2, 3, 4, 5, token], { maxTokens: 5 })));
    expect(error.message).toBe(message);
    expect(error.kind).toBe(kind);
    engine.reset(0);
    expect((await read(engine.generate([4], { maxTokens: 3 }))).ids).toEqual(fakeReply([4], 3));
  });
});
