import { execFile } from 'node:child_process';
import { mkdtempSync, readSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Slot } from '../abi/manifest.ts';
import { OnelaunchError } from '../errors.ts';
import {
  abiStatus,
  type Sampling,
  sourceDtype,
  type TensorSource,
  zeroProgress,
} from '../runtime/bindings.ts';
import { Engine, type EngineSettings } from '../runtime/engine.ts';
import { openLibrary } from '../runtime/library.ts';
import {
  buildFake,
  type Fake,
  fakeHashes,
  fakeLogits,
  fakePenalisedReply,
  fakeReply,
  manySteps,
  tokens,
  vocab,
} from './native/host-fake.ts';
import { read } from './read-reply.ts';

type Dtype = Slot['dtype'];
const bytesOf: Readonly<Record<Dtype, number>> = { bf16: 2, fp16: 2, fp32: 4 };

const slots = layOut();
let folder: string;
let fake: Fake;
const open: Engine[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ol-host-'));
  fake = await buildFake(folder, slots);
});
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => {
  for (const engine of open.splice(0)) engine.close();
  expect(fake.alive(), 'every backend is freed').toBe(0);
});

/** An engine that the test need not close. */
async function emptyEngine(settings: Partial<EngineSettings> = {}): Promise<Engine> {
  const engine = await Engine.open(fake.path, fake.manifest, { context: 256, threads: 2, ...settings });
  open.push(engine);
  return engine;
}

async function readyEngine(settings: Partial<EngineSettings> = {}): Promise<Engine> {
  const engine = await emptyEngine(settings);
  await engine.load(randomSources());
  return engine;
}

const randomSource = (slot: number): TensorSource => ({
  path: null,
  offset: 0,
  slot,
  dtype: sourceDtype.random,
  seed: slot + 1,
  mean: 0,
  scale: 1,
});
const randomSources = () => slots.map((_, slot) => randomSource(slot));

const greedy: Sampling = {
  temperature: 0,
  top_k: 0,
  top_p: 1,
  min_p: 0,
  repetition_penalty: 1,
  presence_penalty: 0,
  seed: 0,
  vocab,
};

/** What a promise fails with. */
async function failureOf(promise: Promise<unknown>): Promise<OnelaunchError> {
  const outcome = await promise.then(
    () => 'no error',
    (error: unknown) => error,
  );
  if (outcome instanceof OnelaunchError) return outcome;
  throw new Error(`expected a OnelaunchError, got ${outcome}`);
}

describe.each([
  ['a backend in host memory', 0],
  ['a backend on a device', 1],
  ['a backend on a device that takes many steps in one request', 2],
])('an engine over %s', (_, device) => {
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
    const arrivals: number[] = [];
    for await (const batch of engine.generate([tokens.slow], { maxTokens: 6 })) {
      arrivals.push(...batch.map(() => performance.now()));
    }
    const gaps = arrivals.slice(1).map((at, i) => at - arrivals[i]!);
    // A pass takes 20 ms; tokens that waited for one another would come at the same time.
    expect(Math.min(...gaps)).toBeGreaterThan(5);
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

  it('keeps a device busy with requests ahead, and a host without any', async () => {
    const engine = await ready();
    await read(engine.generate([1], { maxTokens: 30 }));
    // With many steps in a request, the prompt and all that follows are two.
    expect(fake.mostOutstanding()).toBe([1, 3, 2][device]);
  });

  it('stops within a token when aborted, and is free for the next reply', async () => {
    const engine = await ready();
    const abort = new AbortController();
    const reply = engine.generate([tokens.slow, 1, 2], { maxTokens: 200, signal: abort.signal });
    await reply.next();
    const started = performance.now();
    abort.abort();
    const { ids, finish } = await read(reply);
    expect(finish).toBe('abort');
    expect(ids.length).toBeLessThanOrEqual(1);
    // Three passes of 20 ms are in flight at most.
    expect(performance.now() - started).toBeLessThan(150);
    engine.reset(0);
    expect((await read(engine.generate([4], { maxTokens: 3 }))).ids).toEqual(fakeReply([4], 3));
  });

  it('stops a long prompt too, and keeps the positions it computed', async () => {
    const engine = await ready();
    const prompt = [tokens.slow, ...Array.from({ length: 200 }, (_, i) => i)];
    const signal = AbortSignal.timeout(70);
    const { ids, finish } = await read(engine.generate(prompt, { maxTokens: 5, signal }));
    expect({ ids, finish }).toEqual({ ids: [], finish: 'abort' });
    expect(engine.position).toBeGreaterThan(0);
    expect(engine.position).toBeLessThan(60);
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
    const started = performance.now();
    for await (const batch of engine.generate([tokens.slow], { maxTokens: 200 })) {
      expect(batch.length).toBeGreaterThan(0);
      break;
    }
    expect(performance.now() - started).toBeLessThan(400);
    engine.reset();
    expect((await read(engine.generate([4], { maxTokens: 3 }))).ids).toEqual(fakeReply([4], 3));
  });

  it('refuses a second job while one runs, and the first is not disturbed', async () => {
    const engine = await ready();
    const first = engine.generate([tokens.slow], { maxTokens: 4 });
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
    const rest = await read(first);
    expect([...(batch.value as number[]), ...rest.ids]).toEqual(fakeReply([tokens.slow], 4));
  });

  it('ends the iteration with an error when closed in the middle', async () => {
    const engine = await ready();
    const reply = engine.generate([tokens.slow], { maxTokens: 200 });
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
      const inner = engine.generate([tokens.slow], { maxTokens: 50 });
      await inner.next();
      return inner;
    })();
    expect(fake.alive()).toBe(0);
    await read(reply).catch(() => {});
  });

  it('names the stage that failed, after the tokens before it', async () => {
    const engine = await ready();
    const error = await failureOf(read(engine.generate([1, 2, 3, 4, 5, tokens.fail], { maxTokens: 5 })));
    expect(error.message).toBe('ffn_down: the fake device gave up');
    expect(error.stage).toBe('ffn_down');
    expect(error.kind).toBe('failed');
    expect(engine.position).toBe(4);
    engine.reset(0);
    expect((await read(engine.generate([4], { maxTokens: 3 }))).ids).toEqual(fakeReply([4], 3));
  });

  it.each([
    ['refuses a pass', tokens.refuse, 'no memory for this pass', 'environment'],
    ['throws', tokens.throws, 'the fake backend threw', 'failed'],
    ['samples no token', tokens.rogue, 'sampled 517, which is no token', 'failed'],
  ])('survives a backend that %s', async (_what, token, message, kind) => {
    const engine = await ready();
    const error = await failureOf(read(engine.generate([1, 2, 3, 4, 5, token], { maxTokens: 5 })));
    expect(error.message).toBe(message);
    expect(error.kind).toBe(kind);
    engine.reset(0);
    expect((await read(engine.generate([4], { maxTokens: 3 }))).ids).toEqual(fakeReply([4], 3));
  });

  it('runs beside other engines', async () => {
    const engines = [await ready(), await ready(), await ready()];
    const replies = await Promise.all(
      engines.map((engine, i) => read(engine.generate([i], { maxTokens: 100 }))),
    );
    expect(replies.map((reply) => reply.ids)).toEqual(engines.map((_e, i) => fakeReply([i], 100)));
  });

  it('makes 10,000 tokens in a moment, whatever the reader does', async () => {
    const engine = await ready({ context: 10_001 });
    const reply = engine.generate([1, 2], { maxTokens: 10_000 });
    const started = performance.now();
    const first = await reply.next();
    // The reader sleeps; the tokens wait.
    await new Promise((resolve) => setTimeout(resolve, 300));
    const { ids } = await read(reply);
    const all = [1, 2, ...(first.value as number[]), ...ids];
    expect(all.length).toBe(10_002);
    const hashes = fakeHashes(all);
    expect(all.slice(2)).toEqual(hashes.slice(1, -1).map((hash) => hash % 256));
    expect(performance.now() - started).toBeLessThan(5000);
  });

  it('scores every token from the first one wanted', async () => {
    const engine = await ready();
    const ids = Array.from({ length: 23 }, (_i, i) => (i * 37) % 256);
    for (const first of [0, 5, 8, 22]) {
      engine.reset(0);
      const logits = await engine.score(ids, first);
      const expected = ids.slice(first).flatMap((_id, i) => [...fakeLogits(ids.slice(0, first + i + 1))]);
      expect(logits).toEqual(Float32Array.from(expected));
      expect(engine.position).toBe(23);
    }
    engine.reset(0);
    expect(await engine.score(ids, ids.length)).toEqual(new Float32Array(0));
    expect(engine.position).toBe(23);
  });

  it('hands rows over in blocks of at most 64 MB', async () => {
    const engine = await ready({ context: 40_000 });
    const ids = Array.from({ length: 40_000 }, (_i, i) => (i * 37) % 256);
    const hashes = fakeHashes(ids);
    const blocks: number[] = [];
    let next = 100;
    await engine.scoreRows(ids, 100, async (rows, token) => {
      expect(token).toBe(next);
      expect(rows.byteLength).toBeLessThanOrEqual(64 << 20);
      const count = rows.length / vocab;
      for (let row = 0; row < count; row++) {
        if (rows[row * vocab] !== (hashes[token + row]! & 0xffff))
          throw new Error(`row ${token + row} is wrong`);
      }
      await new Promise((resolve) => setTimeout(resolve, 1));
      blocks.push(count);
      next += count;
    });
    expect(blocks).toEqual([32768, 40_000 - 100 - 32768]);
  });

  it('scores more than one block into one array, and stays busy between blocks', async () => {
    const engine = await ready({ context: 40_000 });
    const ids = Array.from({ length: 40_000 }, (_i, i) => (i * 37) % 256);
    const hashes = fakeHashes(ids);
    const logits = await engine.score(ids, 0);
    expect(logits.length).toBe(40_000 * vocab);
    expect(hashes.findIndex((hash, row) => logits[row * vocab] !== (hash & 0xffff))).toBe(-1);
    engine.reset(0);
    await engine.scoreRows([1, 2, 3], 0, async () => {
      expect((await failureOf(read(engine.generate([1], { maxTokens: 1 })))).message).toContain('busy');
    });
  });

  it('throws the reason of the signal when scoring is aborted, and what onRows throws', async () => {
    const engine = await ready();
    const ids = [tokens.slow, ...Array.from({ length: 199 }, (_i, i) => i)];
    const reason = new Error('enough');
    const abort = new AbortController();
    setTimeout(() => abort.abort(reason), 50);
    await expect(engine.score(ids, 0, { signal: abort.signal })).rejects.toBe(reason);
    expect(engine.position).toBeLessThan(60);
    engine.reset(0);
    const thrown = engine.scoreRows([1, 2], 0, () => {
      throw reason;
    });
    await expect(thrown).rejects.toBe(reason);
    engine.reset(0);
    expect(await engine.score([1], 0)).toEqual(fakeLogits([1]));
  });

  it('says what it runs on', async () => {
    expect((await ready()).device).toBe(device === 0 ? 'fake host' : `fake device ${device}`);
  });
});

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
    const prompt = [tokens.slow, 1, 2];
    const seen: number[] = [];
    for await (const batch of engine.generate(prompt, { maxTokens: 60, signal: abort.signal })) {
      seen.push(...batch);
      if (seen.length >= 3) abort.abort();
    }
    expect(seen).toEqual(fakeReply(prompt, seen.length));
    const { passes, waits } = fake.work();
    expect(waits).toBe(60);
    expect(passes).toBeLessThan(seen.length + 5);
    // The pass that was under way at the abort has finished; its token is dropped.
    expect(engine.position).toBe(prompt.length + seen.length);
    engine.reset();
    const { ids } = await read(engine.generate([4], { maxTokens: 60 }));
    expect(ids).toEqual(fakeReply([4], 60));
    expect(fake.work()).toEqual({ requests: 4, passes: passes + 60, waits: 120 });
  });
});

describe('opening an engine', () => {
  it('tells a missing device from a wrong setting', async () => {
    const missing = await failureOf(emptyEngine({ device: 7 }));
    expect(missing).toMatchObject({ message: 'there is no device 7', kind: 'environment' });
    const tooLarge = await failureOf(emptyEngine({ context: 1 << 24 }));
    expect(tooLarge).toMatchObject({ kind: 'environment', hint: 'try a smaller context' });
    for (const settings of [
      { context: 0 },
      { context: 1.5 },
      { context: Number.NaN },
      { context: 2 ** 40 },
      { threads: -1 },
      { device: -1 },
      { isa: 'sse' as never },
    ]) {
      expect((await failureOf(emptyEngine(settings))).kind).toBe('usage');
    }
  });

  it('refuses to reply before weights are loaded', async () => {
    const engine = await emptyEngine();
    expect((await failureOf(read(engine.generate([1], { maxTokens: 1 })))).message).toBe(
      'no weights are loaded',
    );
    expect((await failureOf(engine.score([1], 0))).message).toBe('no weights are loaded');
  });
});

describe('arguments that C would bend are refused before', () => {
  it.each<[string, (engine: Engine) => Promise<unknown>, RegExp]>([
    ['no ids', (e) => read(e.generate([], { maxTokens: 1 })), /ids is empty/],
    [
      'an id past the vocabulary',
      (e) => read(e.generate([1, 512], { maxTokens: 1 })),
      /ids\[1\] is 512, not an integer from 0 to 511/,
    ],
    ['a negative id', (e) => read(e.generate([-1], { maxTokens: 1 })), /ids\[0\]/],
    ['a fraction', (e) => read(e.generate([1.5], { maxTokens: 1 })), /ids\[0\] is 1.5/],
    ['NaN', (e) => read(e.generate([Number.NaN], { maxTokens: 1 })), /ids\[0\] is NaN/],
    ['a hole', (e) => read(e.generate(new Array<number>(1), { maxTokens: 1 })), /ids\[0\] is undefined/],
    ['text', (e) => read(e.generate('abc' as never, { maxTokens: 1 })), /ids is neither/],
    ['numbers as text', (e) => read(e.generate(['1'] as never, { maxTokens: 1 })), /ids\[0\] is "1"/],
    ['floats', (e) => read(e.generate(Float32Array.of(1) as never, { maxTokens: 1 })), /ids is neither/],
    ['maxTokens 0', (e) => read(e.generate([1], { maxTokens: 0 })), /maxTokens is 0/],
    [
      'maxTokens past 32 bits',
      (e) => read(e.generate([1], { maxTokens: 2 ** 40 })),
      /maxTokens is 1099511627776/,
    ],
    ['maxTokens missing', (e) => read(e.generate([1], {} as never)), /maxTokens is undefined/],
    [
      'a stop id past the vocabulary',
      (e) => read(e.generate([1], { maxTokens: 1, stopIds: [512] })),
      /stopIds\[0\]/,
    ],
    ['first past the end', (e) => e.score([1], 2), /first is 2/],
    ['first negative', (e) => e.score([1], -1), /first is -1/],
    ['a reset forward', async (e) => e.reset(1), /length is 1, not an integer from 0 to 0/],
    [
      'a slot that is no number',
      (e) => e.load([{ ...randomSource(0), slot: '0' as never }]),
      /sources\[0\]\.slot/,
    ],
    ['an unknown dtype', (e) => e.load([{ ...randomSource(0), dtype: 4 }]), /dtype is 4/],
    [
      'a negative offset',
      (e) => e.load([{ ...randomSource(0), dtype: 0, path: 'x', offset: -1 }]),
      /offset is -1/,
    ],
    ['no path', (e) => e.load([{ ...randomSource(0), dtype: 0 }]), /path is not a path/],
    [
      'a path that C would cut',
      (e) => e.load([{ ...randomSource(0), dtype: 0, path: 'a\0b' }]),
      /path is not a path/,
    ],
    [
      'a seed past 64 bits',
      (e) => e.load([{ ...randomSource(0), seed: 2n ** 64n }]),
      /seed is 18446744073709551616/,
    ],
    ['a negative deviation', (e) => e.load([{ ...randomSource(0), scale: -1 }]), /scale is -1/],
    ['an infinite mean', (e) => e.load([{ ...randomSource(0), mean: Infinity }]), /mean is Infinity/],
  ])('%s', async (_, call, message) => {
    const engine = await emptyEngine();
    const error = await failureOf(call(engine));
    expect(error.message).toMatch(message);
    expect(error.kind).toBe('usage');
  });

  it.each<[string, Partial<Sampling>]>([
    ['temperature', { temperature: -1 }],
    ['temperature', { temperature: Number.NaN }],
    ['temperature', { temperature: 1e39 }],
    ['top_k', { top_k: 1.5 }],
    ['top_p', { top_p: 0 }],
    ['top_p', { top_p: 1.1 }],
    ['min_p', { min_p: 2 }],
    ['repetition_penalty', { repetition_penalty: 0 }],
    ['presence_penalty', { presence_penalty: Infinity }],
    ['seed', { seed: -1 }],
    ['seed', { seed: 0.5 }],
    ['vocab', { vocab: 513 }],
    ['vocab', { vocab: 0 }],
  ])('sampling with a wrong %s (%o)', async (name, change) => {
    const engine = await emptyEngine();
    const reply = engine.generate([1], { maxTokens: 1, sampling: { ...greedy, ...change } });
    expect((await failureOf(read(reply))).message).toMatch(new RegExp(`^sampling\\.${name} is`));
  });
});

describe('the library itself', () => {
  it('answers every wrong call with a status and a text', () => {
    const { functions: f } = openLibrary(fake.path, fake.manifest);
    const options = { device: 0, threads: 1, context: 8, isa: 0 };
    const out: [bigint | null] = [null];
    expect(f.ol_create({ ...options, context: 0 }, out)).toBe(abiStatus.badArgument);
    expect(f.ol_error(null)).toBe('context is 0, not at least 1');
    expect(f.ol_create({ ...options, isa: 5 }, out)).toBe(abiStatus.badArgument);
    expect(f.ol_create(options, out)).toBe(abiStatus.ok);
    const engine = out[0];
    const refused = (status: number, expected: number, text: string) => {
      expect([status, f.ol_error(engine)]).toEqual([expected, text]);
    };
    const { badArgument } = abiStatus;
    const args = {
      ids: Int32Array.of(1),
      count: 1,
      max_tokens: 1,
      stop_ids: null,
      stop_count: 0,
      sampling: greedy,
    };
    const generate = (change: object) => f.ol_generate(engine, { ...args, ...change });
    refused(generate({ ids: null }), badArgument, 'ids is null');
    refused(generate({ count: 0 }), badArgument, 'the prompt is empty');
    refused(generate({ max_tokens: 0 }), badArgument, 'max_tokens is not at least 1');
    refused(generate({ ids: Int32Array.of(512) }), badArgument, 'ids[0] is 512; tokens are 0 to 511');
    refused(generate({ stop_count: -1 }), badArgument, 'stop_ids: count is -1');
    refused(
      generate({ sampling: { ...greedy, temperature: Number.NaN } }),
      badArgument,
      'temperature is not a number from 0 on',
    );
    refused(generate({ sampling: { ...greedy, top_p: Number.NaN } }), badArgument, 'top_p is not in (0, 1]');
    refused(
      generate({ sampling: { ...greedy, vocab: 513 } }),
      badArgument,
      'sampling.vocab is 513, not 1 to 512',
    );
    refused(generate({}), badArgument, 'no weights are loaded');
    const score = { ids: Int32Array.of(1), count: 1, first: 0, logits: null };
    refused(f.ol_score(engine, score), badArgument, 'logits is null');
    refused(f.ol_score(engine, { ...score, first: 2 }), badArgument, 'first is not in [0, count]');
    refused(f.ol_load(engine, [], 0), badArgument, 'there are no sources');
    refused(
      f.ol_load(engine, [{ ...randomSource(0), slot: 99 }], 1),
      badArgument,
      `sources[0].slot is 99, not 0 to ${slots.length - 1}`,
    );
    refused(f.ol_load(engine, [{ ...randomSource(0), dtype: 9 }], 1), badArgument, 'sources[0].dtype is 9');
    refused(
      f.ol_load(engine, [{ ...randomSource(0), dtype: 0 }], 1),
      badArgument,
      'sources[0] has no path, or a negative offset',
    );
    refused(f.ol_reset(engine, 1), badArgument, 'cannot reset to 1: the positions in use are 0 to 0');
    refused(
      f.ol_poll(engine, zeroProgress(), null, 4),
      badArgument,
      'tokens is null, or capacity is negative',
    );
    f.ol_close(engine);
    expect(f.ol_generate(null, args)).toBe(badArgument);
    expect(f.ol_poll(null, zeroProgress(), null, 0)).toBe(badArgument);
    expect(f.ol_event_fd(null)).toBe(-1);
    f.ol_close(null);
  });

  it('calls a job running until its last token is fetched', async () => {
    const { functions: f } = openLibrary(fake.path, fake.manifest);
    const out: [bigint | null] = [null];
    f.ol_create({ device: 0, threads: 1, context: 64, isa: 0 }, out);
    const engine = out[0];
    const progress = zeroProgress();
    const finish = async () => {
      do {
        await new Promise((resolve) => setTimeout(resolve, 20));
        f.ol_poll(engine, progress, null, 0);
      } while (progress.state === 1 && Number(progress.done) < 5);
    };
    f.ol_load(engine, randomSources(), slots.length);
    await finish();
    while (progress.state === 1) f.ol_poll(engine, progress, null, 0);
    f.ol_generate(engine, {
      ids: Int32Array.of(1),
      count: 1,
      max_tokens: 5,
      stop_ids: null,
      stop_count: 0,
      sampling: greedy,
    });
    await finish();
    const got: number[] = [];
    const states: number[] = [];
    const two = new Int32Array(2);
    for (let i = 0; i < 3; i++) {
      f.ol_poll(engine, progress, two, 2);
      got.push(...two.subarray(0, progress.tokens));
      states.push(progress.state);
      // The event is there as long as tokens are.
      const event = () => readSync(f.ol_event_fd(engine), new Uint8Array(8));
      if (i < 2) expect(event()).toBe(8);
      else expect(event).toThrow(/EAGAIN/);
    }
    expect(states).toEqual([1, 1, 2]);
    expect(got).toEqual(fakeReply([1], 5));
    f.ol_close(engine);
  });
});

describe('a process with an open engine', () => {
  it.each(['idle', 'open', 'close'])('lives as long as its job, and no longer (%s)', async (how) => {
    const manifest = join(folder, 'manifest.json');
    writeFileSync(manifest, JSON.stringify(fake.manifest));
    const script = new URL('native/host-exit.ts', import.meta.url).pathname;
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--import', 'tsx', script, fake.path, manifest, how, String(tokens.slow)],
      {
        timeout: 30_000,
      },
    );
    if (how === 'idle') {
      expect(stdout).toBe('end');
      return;
    }
    expect(stdout).toMatch(/^(\d+ )+end$/);
    const made = stdout.split(' ').slice(0, -1).map(Number);
    expect(made.reduce((sum, n) => sum + n, 0)).toBe(10);
  });
});

describe('loading', () => {
  const dtypes = ['bf16', 'fp16', 'fp32'] as const;
  const paths = new Map<Dtype, string>();
  const offsets = slots.map((_, i) =>
    slots.slice(0, i).reduce((sum, { shape }) => sum + shape[0] * shape[1], 0),
  );
  const header = 13; // odd, as the data of a safetensors file may be
  const stored = (dtype: Dtype) => slots.map((slot, i) => pattern(dtype, slot.shape[0] * slot.shape[1], i));

  beforeAll(() => {
    for (const dtype of dtypes) {
      const path = join(folder, `${dtype}.bin`);
      writeFileSync(
        path,
        Buffer.concat([Buffer.alloc(header), ...stored(dtype).map((data) => toBytes(data, dtype))]),
      );
      paths.set(dtype, path);
    }
  });
  const fileSources = (dtype: Dtype): TensorSource[] =>
    slots.map((_, slot) => ({
      path: paths.get(dtype)!,
      offset: header + offsets[slot]! * bytesOf[dtype],
      slot,
      dtype: sourceDtype[dtype],
      seed: 0,
      mean: 0,
      scale: 0,
    }));

  describe.each([
    ['host memory', 0, 0xee],
    ['a device', 1, 0],
  ])('into %s', (_, device, gap) => {
    it.each(dtypes)('packs %s into every format, bit by bit, and touches nothing else', async (dtype) => {
      const engine = await emptyEngine({ device });
      fake.dirty();
      await engine.load(fileSources(dtype));
      expect(firstDifference(fake.weights(), packed(stored(dtype), dtype, gap))).toBe(null);
    });

    it('makes the same random weights with any number of threads', async () => {
      const images: Uint8Array[] = [];
      for (const threads of [1, 2, 5]) {
        const engine = await emptyEngine({ device, threads });
        await engine.load(randomSources());
        images.push(fake.weights());
      }
      expect(firstDifference(images[1]!, images[0]!)).toBe(null);
      expect(firstDifference(images[2]!, images[0]!)).toBe(null);
    });

    it('tells how far it is, up to all bytes', async () => {
      const engine = await emptyEngine({ device });
      const seen: [number, number][] = [];
      await engine.load(fileSources('fp32'), { onProgress: (...bytes) => seen.push(bytes) });
      const { weightBytes } = fake.manifest;
      expect(seen.at(-1)).toEqual([weightBytes, weightBytes]);
      expect(seen.every(([done], i) => done >= (seen[i - 1]?.[0] ?? 0))).toBe(true);
    });

    it('ends with the reason of the signal, or with what onProgress throws, and then has no weights', async () => {
      const engine = await emptyEngine({ device });
      const reason = new Error('enough');
      await expect(engine.load(fileSources('bf16'), { signal: AbortSignal.abort(reason) })).rejects.toBe(
        reason,
      );
      const failing = engine.load(fileSources('bf16'), {
        onProgress: () => {
          throw reason;
        },
      });
      await expect(failing).rejects.toBe(reason);
      await engine.load(fileSources('bf16'));
      await read(engine.generate([1], { maxTokens: 1 }));
    });

    it('forgets the sequence of the weights before', async () => {
      const engine = await readyEngine({ device });
      await read(engine.generate([1, 2, 3], { maxTokens: 2 }));
      expect(engine.position).toBe(4);
      await engine.load(randomSources());
      expect(engine.position).toBe(0);
    });
  });

  it('gives random weights of the mean and deviation asked for, the same on both kinds of backend', async () => {
    const images: Uint8Array[] = [];
    for (const device of [0, 1]) {
      const engine = await emptyEngine({ device });
      await engine.load(slots.map((_, slot) => ({ ...randomSource(slot), mean: 0.5, scale: 0.02, seed: 7 })));
      images.push(fake.weights());
    }
    expect(firstDifference(images[1]!, images[0]!)).toBe(null);
    const slot = slots[bigSlot]!;
    const n = slot.shape[0] * slot.shape[1];
    const values = Array.from(rowsOf(images[0]!, slot)).flatMap((row) => [...row]);
    expect(values.length).toBe(n);
    const mean = values.reduce((sum, value) => sum + value, 0) / n;
    const deviation = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / n);
    // Five standard errors of a mean and of a deviation.
    expect(Math.abs(mean - 0.5)).toBeLessThan((5 * 0.02) / Math.sqrt(n));
    expect(Math.abs(deviation - 0.02)).toBeLessThan((5 * 0.02) / Math.sqrt(2 * n));
    // Neighbours in a row, and rows, have nothing to do with each other.
    for (const distance of [1, slot.shape[1]]) {
      const pairs = values.slice(distance).map((value, i) => (value - mean) * (values[i]! - mean));
      const correlation = pairs.reduce((sum, product) => sum + product, 0) / pairs.length / deviation ** 2;
      expect(Math.abs(correlation)).toBeLessThan(5 / Math.sqrt(n));
    }
    expect(values.slice(0, 50)).toEqual(
      Array.from({ length: 50 }, (_, i) => randomReference(7n, i, 0.5, 0.02)),
    );
  });

  it.each<[string, (sources: TensorSource[]) => TensorSource[], RegExp, string]>([
    [
      'a missing file',
      (all) => [{ ...all[0]!, path: '/nowhere/x' }, ...all.slice(1)],
      /^cannot open \/nowhere\/x \(No such file/,
      'failed',
    ],
    ['a folder', (all) => [{ ...all[0]!, path: tmpdir() }, ...all.slice(1)], /is not a file$/, 'failed'],
    ['a slot without source', (all) => all.slice(0, -1), /^slot \d+ has no source$/, 'usage'],
    ['a slot with two sources', (all) => [...all, all[0]!], /^slot 0 has two sources$/, 'usage'],
    [
      'an offset past the end',
      (all) => [{ ...all[0]!, offset: 2 ** 50 }, ...all.slice(1)],
      /is too short: slot 0 needs bytes 1125899906842624 to/,
      'failed',
    ],
  ])('fails on %s, and the engine is then without weights', async (_, change, message, kind) => {
    const engine = await readyEngine();
    const error = await failureOf(engine.load(change(fileSources('bf16'))));
    expect(error.message).toMatch(message);
    expect(error.kind).toBe(kind);
    expect((await failureOf(engine.score([1], 0))).message).toBe('no weights are loaded');
  });

  it('fails on a file that was cut short', async () => {
    const path = join(folder, 'cut.bin');
    const whole = Buffer.concat([Buffer.alloc(header), ...stored('bf16').map((one) => toBytes(one, 'bf16'))]);
    writeFileSync(path, whole);
    truncateSync(path, whole.length - 1);
    const sources = fileSources('bf16').map((source) => ({ ...source, path }));
    const engine = await emptyEngine();
    expect((await failureOf(engine.load(sources))).message).toMatch(
      /cut\.bin is too short: slot \d+ needs bytes/,
    );
    writeFileSync(path, whole);
    await engine.load(sources);
  });

  it('fails on a file that ends while it is read', async () => {
    // A file of the kernel: its size is said to be 4096 bytes, and reading ends after a few.
    const sources = randomSources();
    const slot = slots.findIndex(({ tensor }) => tensor === 'norm');
    sources[slot] = {
      ...sources[slot]!,
      path: '/sys/class/net/lo/mtu',
      offset: 1000,
      dtype: sourceDtype.bf16,
    };
    const engine = await emptyEngine();
    const error = await failureOf(engine.load(sources));
    expect(error.message).toBe('/sys/class/net/lo/mtu ended at byte 1000 while it was read');
  });
});

/** Slots of all formats and odd shapes, as packWeights may place them: 256-byte alignment, rows padded to 32 elements. */
function layOut(): Slot[] {
  const placed: Slot[] = [];
  let end = 0;
  const add = (tensor: string, shape: [number, number], dtype: Dtype, stride: number, offset?: number) => {
    const start = offset ?? Math.ceil(end / 256) * 256;
    placed.push({ tensor, shape, offset: start, stride, dtype });
    const width = Math.min(Math.ceil(shape[1] / 32) * 32, stride);
    end = Math.max(end, start + ((shape[0] - 1) * stride + width) * bytesOf[dtype]);
    return start;
  };
  // All 65,535 finite and other patterns of 16 bits fit into 257 x 255.
  for (const dtype of ['bf16', 'fp16', 'fp32'] as const) add(`odd-${dtype}`, [257, 255], dtype, 256);
  const gate = add('gate', [7, 33], 'bf16', 128);
  add('up', [7, 33], 'bf16', 128, gate + 64 * 2);
  const q = add('q-bias', [1, 45], 'fp32', 45);
  const k = add('k-bias', [1, 19], 'fp32', 19, q + 45 * 4);
  add('v-bias', [1, 19], 'fp32', 19, k + 19 * 4);
  add('norm', [1, 37], 'fp32', 37);
  add('one', [1, 1], 'fp16', 1);
  const reserved = Math.ceil(end / 256) * 256;
  end = reserved + 256;
  // Larger than a chunk of 4 MiB, and rows lie across its border.
  add('long', [900, 999], 'fp32', 1024);
  add('flat', [300, 2048], 'bf16', 2048);
  // Rows longer than the window that a file is read through.
  const a = add('wide-a', [2, 140_001], 'fp16', 2 * 140_032);
  add('wide-b', [2, 140_001], 'fp16', 2 * 140_032, a + 140_032 * 2);
  // Unpadded, and at the end of the file but not of the packed weights: reading on for its padding would be seen.
  add('last', [1, 5], 'fp32', 5, reserved);
  return placed;
}
const bigSlot = slots.findIndex((slot) => slot.tensor === 'long');

/** n stored numbers as bits: every pattern of 16 bits in turn; for fp32 also the ties of both 16-bit formats. */
function pattern(dtype: Dtype, n: number, salt: number): Uint32Array {
  const bits = new Uint32Array(n);
  let random = salt + 1;
  for (let i = 0; i < n; i++) {
    random = Math.imul(random, 1664525) + 1013904223;
    const any = (random ^ (random >>> 16)) >>> 0;
    if (dtype !== 'fp32') bits[i] = i & 0xffff;
    // Ties and their neighbours: a bf16 or fp16 pattern, half a step, and -1, 0 or 1.
    else if (i % 4 === 0) bits[i] = ((i & 0xffff) << 16) + 0x8000 + ((i >> 2) % 3) - 1;
    else if (i % 4 === 1) bits[i] = ((0x33000000 + ((i * 0x1000) % 0x15000000)) | (any & 0x80000000)) >>> 0;
    else bits[i] = any;
  }
  return bits;
}

function toBytes(bits: Uint32Array, dtype: Dtype): Uint8Array {
  return new Uint8Array((dtype === 'fp32' ? bits : Uint16Array.from(bits)).buffer);
}

/** The number that bits stand for, computed from the definition of the format. */
function decode(bits: number, dtype: Dtype): number {
  const [exponentBits, fractionBits] = { bf16: [8, 7], fp16: [5, 10], fp32: [8, 23] }[dtype] as [
    number,
    number,
  ];
  const fraction = bits % 2 ** fractionBits;
  const exponent = Math.floor(bits / 2 ** fractionBits) % 2 ** exponentBits;
  const sign = bits >= 2 ** (exponentBits + fractionBits) ? -1 : 1;
  const bias = 2 ** (exponentBits - 1) - 1;
  if (exponent === 2 ** exponentBits - 1) return fraction === 0 ? sign * Infinity : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** (1 - bias - fractionBits);
  return sign * (1 + fraction / 2 ** fractionBits) * 2 ** (exponent - bias);
}

/** The nearest number of the format, ties to the even fraction, in exact arithmetic of doubles. */
function round(value: number, dtype: Dtype): number {
  if (dtype === 'fp32') return Math.fround(value);
  if (!Number.isFinite(value) || value === 0) return value;
  const [least, fractionBits, largest] = dtype === 'bf16' ? [-126, 7, 2 ** 128] : [-14, 10, 2 ** 16];
  const exponent = Math.max(least, Math.floor(Math.log2(Math.abs(value))));
  const step = 2 ** (exponent - fractionBits);
  const steps = Math.abs(value) / step;
  const below = Math.floor(steps);
  const up = steps - below > 0.5 || (steps - below === 0.5 && below % 2 === 1);
  const rounded = (up ? below + 1 : below) * step;
  return Math.sign(value) * (rounded >= largest ? Infinity : rounded);
}

const scratch = new DataView(new ArrayBuffer(4));
/** Bits of a number that the format holds exactly. */
function encode(value: number, dtype: Dtype): number {
  scratch.setFloat32(0, value);
  if (dtype === 'fp32') return scratch.getUint32(0);
  if (dtype === 'bf16') return scratch.getUint16(0);
  const sign = Object.is(value, -0) || value < 0 ? 0x8000 : 0;
  const size = Math.abs(value);
  if (size === Infinity) return sign | 0x7c00;
  if (size < 2 ** -14) return sign | (size * 2 ** 24);
  const exponent = Math.floor(Math.log2(size));
  return sign | ((exponent + 15) << 10) | ((size / 2 ** exponent - 1) * 1024);
}

/** Bits of one format to bits of another. */
function converter(from: Dtype, to: Dtype): (bits: number) => number {
  if (from === to) return (bits) => bits;
  const convert = (bits: number) => {
    const value = decode(bits, from);
    return Number.isNaN(value) ? notANumber(bits, from, to) : encode(round(value, to), to);
  };
  if (from === 'fp32') return convert;
  const table = Uint32Array.from({ length: 2 ** 16 }, (_, bits) => convert(bits));
  return (bits) => table[bits]!;
}

/** What the packed weights must be; bytes of no slot are `gap`. */
function packed(stored: readonly Uint32Array[], from: Dtype, gap: number): Uint8Array {
  const bytes = new Uint8Array(fake.manifest.weightBytes).fill(gap);
  const view = new DataView(bytes.buffer);
  for (const [index, { shape, offset, stride, dtype }] of slots.entries()) {
    const [rows, columns] = shape;
    const width = Math.min(Math.ceil(columns / 32) * 32, stride);
    const convert = converter(from, dtype);
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < width; column++) {
        let bits = 0;
        if (column < columns) bits = convert(stored[index]![row * columns + column]!);
        const at = offset + (row * stride + column) * bytesOf[dtype];
        if (dtype === 'fp32') view.setUint32(at, bits, true);
        else view.setUint16(at, bits, true);
      }
    }
  }
  return bytes;
}

/** Not-a-number keeps its sign and the upper bits of its fraction; where the fraction is cut, it becomes quiet. */
function notANumber(bits: number, from: Dtype, to: Dtype): number {
  const wide = from === 'bf16' ? bits * 2 ** 16 : bits;
  const sign = from === 'fp32' ? bits >>> 31 : bits >>> 15;
  const fraction = from === 'fp16' ? (bits & 0x3ff) << 13 : wide & 0x7fffff;
  if (to === 'fp32') return ((sign << 31) | 0x7f800000 | fraction) >>> 0;
  if (to === 'bf16') return (sign << 15) | 0x7fc0 | (fraction >>> 16);
  return (sign << 15) | 0x7e00 | (fraction >>> 13);
}

function firstDifference(got: Uint8Array, expected: Uint8Array): string | null {
  if (Buffer.compare(got, expected) === 0) return null;
  const at = got.findIndex((byte, i) => byte !== expected[i]);
  const slot = slots.findLast((candidate) => candidate.offset <= at);
  return `byte ${at} (${slot?.tensor} + ${at - (slot?.offset ?? 0)}) is ${got[at]}, expected ${expected[at]}`;
}

/** The rows of an fp32 slot, without padding. */
function rowsOf(image: Uint8Array, { shape: [rows, columns], offset, stride }: Slot): Float32Array[] {
  return Array.from(
    { length: rows },
    (_, row) => new Float32Array(image.buffer, offset + row * stride * 4, columns),
  );
}

/** Element i of random weights, with bigints. */
function randomReference(seed: bigint, i: number, mean: number, scale: number): number {
  const cut = (x: bigint) => BigInt.asUintN(64, x);
  const scatter = (x: bigint) => {
    let y = cut((x ^ (x >> 30n)) * 0xbf58476d1ce4e5b9n);
    y = cut((y ^ (y >> 27n)) * 0x94d049bb133111ebn);
    return y ^ (y >> 31n);
  };
  const bits = scatter(cut(scatter(seed) + BigInt(i + 1) * 0x9e3779b97f4a7c15n));
  const sum =
    [0n, 16n, 32n, 48n].reduce((total, shift) => total + Number((bits >> shift) & 0xffffn), 0) - 131070;
  return Math.fround(
    Math.fround(mean) + sum * Math.fround(Math.fround(scale) / Math.sqrt((2 ** 32 - 1) / 3)),
  );
}
