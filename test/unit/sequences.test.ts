// Several sequences of an engine, over a backend that stands in for a model: each says what it says alone, whatever its neighbours do.

import { describe, expect, it } from 'vitest';
import type { Sampling } from '../../runtime/engine/bindings.ts';
import type { Engine } from '../../runtime/engine/engine.ts';
import type { GenerateOptions } from '../../runtime/engine/options.ts';
import { maskOf } from '../support/choices.ts';
import { fakeEngines, greedy, randomSources } from '../support/fake-engines.ts';
import { fakeLogits, fakePenalisedReply, fakeReply, tokens, vocab } from '../support/host-fake.ts';
import { wholeNumbers } from '../support/random.ts';
import { read } from '../support/read-reply.ts';
import { failureOf } from '../support/refusal.ts';
import { until, within } from '../support/within.ts';

const { emptyEngine, fake, readyEngine } = await fakeEngines();

/** A turn of the event loop: what was begun has asked the engine, and what was ended has told it. */
const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Starts all of them before the first pass goes on. */
async function together<T>(begin: readonly (() => Promise<T>)[]): Promise<T[]> {
  fake.allow(0);
  const all = Promise.all(begin.map((each) => each()));
  await turn();
  fake.allow(Number.POSITIVE_INFINITY);
  return await all;
}

/** The reply to a prompt in a sequence of its own. */
async function reply(engine: Engine, ids: readonly number[], options: GenerateOptions) {
  await using sequence = engine.open();
  const { ids: said, finish } = await read(sequence.generate(ids, options));
  return { said, finish };
}

describe.each([
  ['in host memory', 0],
  ['on a device', 1],
  ['on a device whose passes have one sequence', 2],
  ['on a device that takes prompts of many tokens', 3],
  ['on a device that takes prompts of many tokens, without their logits', 5],
  ['on a device whose passes have rows, or many steps', 4],
  ['on a device that asks for masks', 6],
  ['on a device whose passes have many rows', 8],
])('sequences over a backend %s', (_, device) => {
  const ready = (sequences = 4) => readyEngine({ device, sequences, context: 300 });
  const hasRows = device < 2 || device === 4 || device === 6 || device === 8;

  it('each say what they say alone, with penalties, seeds and ends of their own', async () => {
    const engine = await ready(4);
    const prompts = [[1, 2, 3, 4, 5, 6, 7, 8, 9], [10], [11, 12], Array.from({ length: 130 }, (_, i) => i)];
    const penalised: Sampling = { ...greedy, repetition_penalty: 1.1 };
    const replies = await together([
      () => reply(engine, prompts[0]!, { maxTokens: 60 }),
      () => reply(engine, prompts[1]!, { maxTokens: 70, sampling: penalised }),
      () => reply(engine, prompts[2]!, { maxTokens: 80, sampling: { ...greedy, seed: 7 } }),
      () => reply(engine, prompts[3]!, { maxTokens: 20, sampling: penalised }),
    ]);
    expect(replies.map(({ said }) => said)).toEqual([
      fakeReply(prompts[0]!, 60),
      fakePenalisedReply(prompts[1]!, 70),
      fakeReply(prompts[2]!, 80, 7),
      fakePenalisedReply(prompts[3]!, 20),
    ]);
    expect(replies.every(({ finish }) => finish === 'length')).toBe(true);
    expect(fake.mostRows()).toBe(hasRows ? 4 : 0);
  });

  it('join and leave at any pass', async () => {
    const engine = await ready(9);
    const below = wholeNumbers(device + 1);
    const loads = Array.from({ length: 8 }, (_, number) => async () => {
      for (let turn = 0; turn < 12; turn++) {
        const prompt = Array.from({ length: turn === 0 ? 1 : 1 + below(90) }, () => below(256));
        const maxTokens = 1 + below(40);
        const whole = fakeReply(prompt, maxTokens, number);
        const stop = turn > 0 && below(2) ? whole[below(maxTokens)]! : 511;
        const end = whole.indexOf(stop);
        const { said, finish } = await reply(engine, prompt, {
          maxTokens,
          stopIds: [stop, 510],
          sampling: { ...greedy, seed: number },
        });
        expect(said).toEqual(end < 0 ? whole : whole.slice(0, end + 1));
        expect(finish).toBe(end < 0 ? 'length' : 'stop');
      }
    });
    await together(loads);
    if (device === 8) expect(fake.mostRows()).toBeGreaterThan(4);
    else expect(fake.mostRows()).toBe(hasRows ? 4 : 0);
  });

  it('take turns where more decode than a pass has rows', async () => {
    const engine = await ready(5);
    const before = fake.work().passes;
    const prompts = [1, 2, 3, 4, 5];
    const replies = await together(prompts.map((id) => () => reply(engine, [id], { maxTokens: 40 })));
    expect(replies.map(({ said }) => said)).toEqual(prompts.map((id) => fakeReply([id], 40)));
    // 200 tokens in passes of 4; were the fifth to wait for the others, there would be 80. Device 4 may have made all of one before the others come.
    if (device < 2) expect(fake.work().passes - before).toBeLessThan(60);
  });

  it('go on behind their replies, and where they are reset; what is scored or appended is theirs', async () => {
    const engine = await ready(2);
    await using other = engine.open();
    const beside = read(other.generate([9, 9], { maxTokens: 250 }));
    await using sequence = engine.open();
    const first = (await read(sequence.generate([1, 2, 3], { maxTokens: 5 }))).ids;
    expect(sequence.position).toBe(7);
    const more = (await read(sequence.generate(first.slice(-1), { maxTokens: 5 }))).ids;
    expect([...first, ...more]).toEqual(fakeReply([1, 2, 3], 10));
    sequence.reset(6);
    await sequence.append([4, 5, 6, 7, 8, 9]);
    expect(sequence.position).toBe(12);
    const held = [1, 2, 3, ...first.slice(0, 3), 4, 5, 6, 7, 8, 9];
    const logits = await sequence.score([10, 11, 12, 13, 14], 2);
    expect(logits.length).toBe(3 * vocab);
    for (let row = 0; row < 3; row++) {
      const known = [...held, 10, 11, 12, 13, 14].slice(0, held.length + 3 + row);
      expect(logits.subarray(row * vocab, (row + 1) * vocab)).toEqual(fakeLogits(known));
    }
    expect((await read(sequence.generate([15], { maxTokens: 4 }))).ids).toEqual(
      fakeReply([...held, 10, 11, 12, 13, 14, 15], 4),
    );
    sequence.reset();
    expect((await read(sequence.generate([5], { maxTokens: 3 }))).ids).toEqual(fakeReply([5], 3));
    expect((await beside).ids).toEqual(fakeReply([9, 9], 250));
  });

  it('end alone when aborted or left, and free their place', async () => {
    const engine = await ready(3);
    await using other = engine.open();
    fake.allow(0);
    const beside = read(other.generate([9, 1], { maxTokens: 12 }));
    const abort = new AbortController();
    await using aborted = engine.open();
    const cut = aborted.generate([2, 3], { maxTokens: 200, signal: abort.signal });
    const begun = cut.next();
    await turn();
    fake.allow(8);
    const said = (await begun).value as number[];
    abort.abort();
    fake.allow(Number.POSITIVE_INFINITY);
    const rest = await read(cut);
    expect(rest.finish).toBe('abort');
    const all = [...said, ...rest.ids];
    expect(all).toEqual(fakeReply([2, 3], 200).slice(0, all.length));
    expect(all.length).toBeLessThanOrEqual(9);
    expect(aborted.position).toBe(2 + all.length - 1);
    // It goes on where it was aborted.
    expect((await read(aborted.generate(all.slice(-1), { maxTokens: 3 }))).ids).toEqual(
      fakeReply([2, 3, ...all], 3),
    );
    const left = engine.open();
    const reading = left.generate([4], { maxTokens: 200 });
    fake.allow(12);
    await reading.next();
    const leaving = reading.return({} as never);
    await turn();
    fake.allow(Number.POSITIVE_INFINITY);
    await leaving;
    expect(left.position).toBeLessThanOrEqual(13);
    await left.close();
    expect((await reply(engine, [6], { maxTokens: 3 })).said).toEqual(fakeReply([6], 3));
    const never = read(aborted.generate([1], { maxTokens: 3, signal: AbortSignal.abort() }));
    expect(await never).toMatchObject({ ids: [], finish: 'abort' });
    const reason = new Error('enough');
    await expect(aborted.score([1], 0, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect((await beside).ids).toEqual(fakeReply([9, 1], 12));
  });

  it('fail alone where logits are no numbers or a prompt fails', async () => {
    const engine = await ready(4);
    const beside = reply(engine, [tokens.slow, 5], { maxTokens: 20 });
    for (const [prompt, text] of [
      [[1, tokens.nan], 'the logits are not finite at position 1'],
      [[tokens.nan], 'the logits are not finite at position 0'],
      [[1, 2, 3, tokens.fail], 'ffn_down: the fake device gave up'],
      [[1, 2, 3, 4, 5, tokens.refuse], 'no memory for this pass'],
      [[1, tokens.throws], 'the fake backend threw'],
      [[tokens.rogue], 'sampled 517, which is no token'],
    ] as const) {
      const [failed, other] = await Promise.all([
        failureOf(reply(engine, prompt, { maxTokens: 5 })),
        reply(engine, [8, 8, 8], { maxTokens: 9 }),
      ]);
      expect(failed.message).toBe(text);
      if (text.includes('finite')) {
        await using scored = engine.open();
        expect((await failureOf(scored.score(prompt, 0))).message).toBe(text);
      }
      expect(other.said).toEqual(fakeReply([8, 8, 8], 9));
    }
    expect((await beside).said).toEqual(fakeReply([tokens.slow, 5], 20));
  });

  it('are each told why where a pass fails that they share, and go on behind it', async () => {
    const engine = await ready(4);
    const outcome = (replying: ReturnType<typeof read>) =>
      replying.then(
        ({ ids }) => ids,
        (error: Error) => error.message,
      );
    for (const [token, text] of [
      [tokens.fail, 'ffn_down: the fake device gave up'],
      [tokens.throws, 'the fake backend threw'],
      // It is seen where a token is fed by its number.
      ...(device === 0 ? [[tokens.refuse, 'no memory for this pass'] as const] : []),
    ] as const) {
      const sequences = [engine.open(), engine.open(), engine.open()];
      const prompts = [[1, 2], [3], [4]];
      // What the last one chooses first, and feeds to its next pass.
      const bias = { [token]: 100 };
      const ends = await within(
        together(
          sequences.map((sequence, i) => () => {
            const own = i === 2 ? { bias } : {};
            return outcome(read(sequence.generate(prompts[i]!, { maxTokens: 100, ...own })));
          }),
        ),
        () => `the ends of three replies by '${text}'`,
      );
      const whole = prompts.map((ids) => fakeReply(ids, 100));
      expect(ends).toEqual(hasRows ? [text, text, text] : [whole[0], whole[1], text]);
      for (const [i, sequence] of sequences.entries()) {
        const known = [...prompts[i]!, ...(i < 2 ? whole[i]! : [token])].slice(0, sequence.position);
        const { ids } = await read(sequence.generate([9], { maxTokens: 5 }));
        expect(ids).toEqual(fakeReply([...known, 9], 5));
        await sequence.close();
      }
    }
  });

  it('end with an error wherever their thread finds no memory, and reply again behind it', async () => {
    const engine = await ready(5);
    const prompt = Array.from({ length: 9 }, (_, i) => i);
    const even = maskOf(
      Array.from({ length: vocab / 2 }, (_, i) => 2 * i),
      vocab,
    );
    const jobs: readonly ((sequence: ReturnType<Engine['open']>) => Promise<unknown>)[] = [
      async (sequence) => (await read(sequence.generate(prompt, { maxTokens: 9 }))).ids,
      async (sequence) => {
        const sampling = { ...greedy, repetition_penalty: 1.1 };
        return (await read(sequence.generate([10], { maxTokens: 9, sampling }))).ids;
      },
      async (sequence) =>
        (await read(sequence.generate([11], { maxTokens: 5, mask: { next: () => even } }))).ids,
      async (sequence) => {
        const logprobs = { top: 2, onLogprobs: () => {} };
        return (await read(sequence.generate([12], { maxTokens: 5, logprobs }))).ids;
      },
      async (sequence) => [...(await sequence.score(prompt, 2))],
    ];
    const run = async () => {
      const sequences = jobs.map(() => engine.open());
      const ends = await within(
        together(jobs.map((job, i) => () => job(sequences[i]!).catch(({ message }: Error) => message))),
        () => `the ends of jobs without memory, after ${left} allocations`,
      );
      for (const sequence of sequences) await sequence.close();
      return ends;
    };
    let left = -1;
    const whole = await run();
    for (let failed = true; failed; ) {
      fake.exhaust(++left);
      const ends = await run();
      failed = fake.exhausted();
      fake.exhaust(-1);
      for (const [i, end] of ends.entries()) if (end !== 'out of memory') expect(end).toEqual(whole[i]);
      if (!failed) expect(ends).toEqual(whole);
    }
    expect(left).toBeGreaterThan(20);
    expect(await run()).toEqual(whole);
  });

  it('end where the context ends, each by itself', async () => {
    const engine = await readyEngine({ device, sequences: 2, context: 20 });
    await using full = engine.open();
    await using other = engine.open();
    const [whole, beside] = await together([
      () => read(full.generate([1, 2, 3, 4], { maxTokens: 1000 })),
      () => read(other.generate([5], { maxTokens: 10 })),
    ]);
    const { ids, finish } = whole!;
    expect({ ids, finish }).toEqual({ ids: fakeReply([1, 2, 3, 4], 17), finish: 'context' });
    expect(beside!.ids).toEqual(fakeReply([5], 10));
    const text = '1 tokens do not fit: 20 of 20 positions are in use';
    expect((await failureOf(read(full.generate([1], { maxTokens: 1 })))).message).toBe(text);
    expect((await failureOf(full.append([1]))).message).toBe(text);
    full.reset(18);
    expect((await read(full.generate(ids.slice(14, 15), { maxTokens: 9 }))).ids).toEqual(ids.slice(15));
  });

  it('are refused while something else is in their way, and nothing is disturbed', async () => {
    const engine = await ready(2);
    const sequence = engine.open();
    const running = sequence.generate([9], { maxTokens: 6 });
    fake.allow(1);
    const first = (await running.next()).value as number[];
    const busy = 'the sequence is busy with another job';
    expect((await failureOf(read(sequence.generate([1], { maxTokens: 1 })))).message).toBe(busy);
    expect((await failureOf(sequence.append([1]))).message).toBe(busy);
    expect(() => sequence.reset()).toThrow(busy);
    const hasJobs = 'the engine is busy: its sequences have jobs';
    for (const job of [
      () => read(engine.generate([1], { maxTokens: 1 })),
      () => engine.score([1], 0),
      () => engine.load(randomSources()),
    ]) {
      expect((await failureOf(job())).message).toBe(hasJobs);
    }
    expect(() => engine.reset()).toThrow(hasJobs);
    const second = engine.open();
    expect(() => engine.open()).toThrow('no sequence is free: all 2 are open; close one first');
    await second.close();
    fake.allow(Number.POSITIVE_INFINITY);
    expect([...first, ...(await read(running)).ids]).toEqual(fakeReply([9], 6));
    expect((await failureOf(engine.load(randomSources()))).message).toContain('sequences are open');
    await Promise.all([sequence.close(), sequence.close()]);
    expect((await failureOf(sequence.append([1]))).message).toBe('the sequence is closed');
    await engine.load(randomSources());
    const own = engine.generate([9], { maxTokens: 3 });
    fake.allow(1);
    await own.next();
    expect(() => engine.open()).toThrow('the engine is busy with another job');
    await own.return({} as never);
  });

  it("leave the engine's own sequence as it is, and take its place only while it is empty", async () => {
    const engine = await ready(2);
    const whole = fakeReply([1, 2], 6);
    const half = (await read(engine.generate([1, 2], { maxTokens: 3 }))).ids;
    expect((await reply(engine, [3, 3, 3], { maxTokens: 30 })).said).toEqual(fakeReply([3, 3, 3], 30));
    expect((await read(engine.generate(half.slice(-1), { maxTokens: 3 }))).ids).toEqual(whole.slice(3));
    await using beside = engine.open();
    expect(() => engine.open()).toThrow("1 are open, and the engine's own has tokens");
    engine.reset();
    await using own = engine.open();
    expect((await failureOf(read(engine.generate([1], { maxTokens: 1 })))).message).toBe(
      "the engine's own sequence has no place: all 2 are open; close one first",
    );
    expect((await read(own.generate([5, 6], { maxTokens: 4 }))).ids).toEqual(fakeReply([5, 6], 4));
    expect(beside.position).toBe(0);
  });

  it('end when the engine is closed: without waiting they fail, with waiting they are aborted', async () => {
    const closed = await ready(3);
    const endless = { maxTokens: 290 };
    fake.allow(3);
    const replies = [1, 2, 3].map((id) => read(closed.open().generate([id], endless)));
    const outcomes = replies.map((each) => failureOf(each));
    closed.close();
    for (const { message } of await Promise.all(outcomes)) {
      expect(message).toBe('the engine was closed during this job');
    }
    const ended = await ready(3);
    const sequences = [1, 2, 3].map(() => ended.open());
    fake.allow(3);
    const more = sequences.map((sequence, id) => read(sequence.generate([id], endless)));
    await ended[Symbol.asyncDispose]();
    for (const { finish } of await Promise.all(more)) expect(finish).toBe('abort');
    expect((await failureOf(sequences[0]!.append([1]))).message).toBe('the engine is closed');
    await sequences[0]!.close();
  });

  it('end when one is closed: its reply is aborted, and others go on', async () => {
    const engine = await ready(3);
    await using other = engine.open();
    fake.allow(3);
    const beside = read(other.generate([7], { maxTokens: 8 }));
    const sequence = engine.open();
    const running = read(sequence.generate([1], { maxTokens: 250 }));
    const closing = sequence.close();
    fake.allow(Number.POSITIVE_INFINITY);
    await closing;
    expect((await running).finish).toBe('abort');
    expect((await beside).ids).toEqual(fakeReply([7], 8));
  });
});

describe('passes of tokens that nobody has seen yet', () => {
  const penalised: Sampling = { ...greedy, repetition_penalty: 1.1 };

  it.each([
    ['none in host memory', 0, 1],
    ['one on a device', 1, 2],
    ['one on a device of many steps', 4, 2],
  ])('are launched: %s', async (_, device, most) => {
    const engine = await readyEngine({ device, sequences: 3 });
    const replies = await together(
      [1, 2, 3].map((id) => () => reply(engine, [id], { maxTokens: 30, sampling: penalised })),
    );
    expect(replies.map(({ said }) => said)).toEqual([1, 2, 3].map((id) => fakePenalisedReply([id], 30)));
    expect(fake.mostOutstanding()).toBe(most);
  });

  it('leave nothing behind in a sequence whose reply has ended before them', async () => {
    const engine = await readyEngine({ device: 1, sequences: 2 });
    await using other = engine.open();
    await using sequence = engine.open();
    const whole = fakePenalisedReply([1, 2], 20);
    const stopIds = [whole[4]!];
    const [, first] = await together([
      () => read(other.generate([9, 9], { maxTokens: 200 })),
      () => read(sequence.generate([1, 2], { maxTokens: 20, stopIds, sampling: penalised })),
    ]);
    const { ids } = first!;
    expect(ids).toEqual(whole.slice(0, whole.indexOf(whole[4]!) + 1));
    expect(sequence.position).toBe(2 + ids.length - 1);
    // Another than the one that was fed to the pass that is thrown away.
    const { ids: more } = await read(sequence.generate([7], { maxTokens: 5, sampling: penalised }));
    expect(more).toEqual(fakePenalisedReply([1, 2, ...ids.slice(0, -1), 7], 5));
  });

  it('are as many as a launch has where one sequence decodes alone, and end for whoever joins', async () => {
    const engine = await readyEngine({ device: 4, sequences: 2 });
    const before = fake.work().requests;
    const alone = await reply(engine, [1, 2, 3], { maxTokens: 60, sampling: penalised });
    expect(alone.said).toEqual(fakePenalisedReply([1, 2, 3], 60));
    expect(fake.work().requests - before).toBe(2); // the prompt with its first token, and all others
    await using long = engine.open();
    const abort = new AbortController();
    const prompt = [tokens.slow, 4];
    const running = long.generate(prompt, { maxTokens: 60, sampling: penalised, signal: abort.signal });
    const said = [...((await running.next()).value as readonly number[])];
    const { passes } = fake.work();
    const joined = await reply(engine, [5, 6], { maxTokens: 3, sampling: penalised });
    expect(joined.said).toEqual(fakePenalisedReply([5, 6], 3));
    expect(fake.work().passes - passes).toBeLessThan(30); // of 60 that the launch has
    abort.abort();
    const rest = await read(running);
    const all = [...said, ...rest.ids];
    expect(all).toEqual(fakePenalisedReply(prompt, 60).slice(0, all.length));
  });
});

describe('a prompt that begins while others decode', () => {
  it.each([
    ['follows the pass under way', {}, 1],
    [
      'waits for it where logits are looked at before the next',
      { logprobs: { top: 1, onLogprobs: () => {} } },
      0,
    ],
  ])('%s', async (_, options: Partial<GenerateOptions>, chunks) => {
    const engine = await readyEngine({ device: 1, sequences: 3 });
    const prompt = [5, 6, 7];
    fake.allow(3);
    const replies = [[1], [2]].map((ids) => reply(engine, ids, { maxTokens: 20 }));
    await until(
      () => fake.work().passes === 3,
      () => `3 passes, but ${fake.work().passes}`,
    );
    // Until those that may be under way are: what joins before may be next.
    for (let requests = -1; requests !== fake.work().requests; ) {
      requests = fake.work().requests;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const joined = reply(engine, prompt, { maxTokens: 4, ...options });
    await turn();
    fake.allow(1); // of the two that are under way: the other one is held
    await until(
      () => fake.work().passes === 4,
      () => `4 passes, but ${fake.work().passes}`,
    );
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(fake.chunks()).toBe(chunks);
    fake.allow(Number.POSITIVE_INFINITY);
    expect((await Promise.all([...replies, joined])).map(({ said }) => said)).toEqual([
      fakeReply([1], 20),
      fakeReply([2], 20),
      fakeReply(prompt, 4),
    ]);
  });

  it.each([0, 1])('takes turns with them, chunk by chunk, over backend %i', async (device) => {
    const engine = await readyEngine({ device, sequences: 3, context: 300 });
    const prompt = Array.from({ length: 200 }, (_, i) => 20 + i);
    fake.allow(0);
    const all = [[1], [2], prompt].map((ids) => reply(engine, ids, { maxTokens: 60 }));
    await turn();
    fake.allow(40);
    await until(
      () => fake.work().passes === 40,
      () => `40 passes, but ${fake.work().passes}`,
    );
    expect(fake.chunks()).toBeGreaterThanOrEqual(19);
    expect(fake.chunks()).toBeLessThanOrEqual(21);
    fake.allow(Number.POSITIVE_INFINITY);
    expect((await Promise.all(all)).map(({ said }) => said)).toEqual(
      [[1], [2], prompt].map((ids) => fakeReply(ids, 60)),
    );
  });
});

describe('a reply of the engine itself', () => {
  it('fails where a pass does, whatever those behind it do, and wherever its thread finds no memory', async () => {
    const engine = await readyEngine({ device: 1 });
    const failing = engine.generate([1, 2, 3, tokens.fail, tokens.throws], { maxTokens: 1 });
    expect((await failureOf(read(failing))).message).toBe('ffn_down: the fake device gave up');
    const prompt = [1, 2, 3, 4, 5, 6];
    for (let left = 0, failed = true; failed; left++) {
      engine.reset();
      fake.exhaust(left);
      const end = await within(
        read(engine.generate(prompt, { maxTokens: 9 })).catch(({ message }: Error) => message),
        () => `the end of a reply without memory, after ${left} allocations`,
      );
      failed = fake.exhausted();
      fake.exhaust(-1);
      expect(failed ? end : 'out of memory').toBe('out of memory');
      if (!failed) expect(end).toMatchObject({ ids: fakeReply(prompt, 9) });
    }
  });
});

describe('the arguments of sequences', () => {
  it('are refused by name', async () => {
    for (const sequences of [0, 17, 1.5]) {
      expect((await failureOf(readyEngine({ sequences }))).message).toBe(
        `sequences is ${sequences}, not an integer from 1 to 16`,
      );
    }
    const engine = await readyEngine({ sequences: 2 });
    await using sequence = engine.open();
    expect((await failureOf(sequence.append([512]))).message).toContain('ids[0] is 512');
    expect((await failureOf(sequence.append([]))).message).toBe('ids is empty');
    expect(() => sequence.reset(1)).toThrow('length is 1, not an integer from 0 to 0');
    const stops = sequence.generate([1], { maxTokens: 1, stopIds: Array<number>(1025).fill(1) });
    expect((await failureOf(read(stops))).message).toBe('1025 stop ids were given; there may be 1024');
    const drafts = sequence.generate([1], { maxTokens: 1, speculate: { tokens: 2 } });
    expect((await failureOf(read(drafts))).message).toContain('speculate: passes of several sequences');
    const auto = sequence.generate([1], { maxTokens: 3, speculate: 'auto' });
    expect((await read(auto)).ids).toEqual(fakeReply([1], 3));
    const empty = await emptyEngine({ sequences: 2 });
    expect(() => empty.open()).toThrow('no weights are loaded');
  });
});

describe('the cache of a sequence', () => {
  it('is given to another, which goes on as if it had computed it; so is that of one that replies', async () => {
    const engine = await readyEngine({ device: 1, sequences: 3, context: 300 });
    const [one, other, third] = [engine.open(), engine.open(), engine.open()];
    const ids = Array.from({ length: 40 }, (_, i) => i);
    await one.append(ids);
    fake.allow(0);
    const running = read(one.generate([7], { maxTokens: 6 }));
    other.copyFrom(one, 30);
    third.copyFrom(one, 40);
    fake.allow(Number.POSITIVE_INFINITY);
    expect(other.position).toBe(30);
    expect((await read(other.generate([5], { maxTokens: 4 }))).ids).toEqual(
      fakeReply([...ids.slice(0, 30), 5], 4),
    );
    expect((await read(third.generate([6], { maxTokens: 4 }))).ids).toEqual(fakeReply([...ids, 6], 4));
    expect((await running).ids).toEqual(fakeReply([...ids, 7], 6));
    other.copyFrom(one, 0);
    expect((await read(other.generate([5], { maxTokens: 4 }))).ids).toEqual(fakeReply([5], 4));
  });

  it('is read, and written where another sequence begins, in pieces', async () => {
    const engine = await readyEngine({ sequences: 2, context: 300 });
    const ids = Array.from({ length: 40 }, (_, i) => 3 * i);
    await engine.score(ids, ids.length);
    const pieces = [engine.readCache(0, 25), engine.readCache(25, 15)] as const;
    expect(pieces[0].length).toBe(25 * engine.cacheBytes());
    engine.reset(0);
    const there = engine.open();
    there.writeCache(ids.slice(0, 25), pieces[0]);
    there.writeCache(ids.slice(25), pieces[1]);
    expect((await read(there.generate([9], { maxTokens: 5 }))).ids).toEqual(fakeReply([...ids, 9], 5));
    engine.writeCache(ids.slice(0, 25), pieces[0]);
    expect(engine.position).toBe(25);
    expect((await read(engine.generate([9], { maxTokens: 5 }))).ids).toEqual(
      fakeReply([...ids.slice(0, 25), 9], 5),
    );
  });

  it('is not touched where positions, bytes or rests do not fit, or a job runs', async () => {
    const engine = await readyEngine({ sequences: 2, context: 50 });
    const [one, other] = [engine.open(), engine.open()];
    await one.append([1, 2, 3]);
    const bytes = one.readCache(0, 3);
    const refused = (call: () => unknown) => {
      try {
        call();
      } catch (error) {
        return (error as Error).message;
      }
      return 'no error';
    };
    expect(refused(() => other.copyFrom(one, 4))).toContain('length');
    expect(refused(() => one.copyFrom(one, 3))).toBe('a sequence cannot be copied to itself');
    expect(refused(() => one.readCache(2, 2))).toContain('count');
    expect(refused(() => other.writeCache([1, 2, 3], bytes.subarray(1)))).toBe(
      '3 positions have 15 bytes, not 14',
    );
    expect(refused(() => other.writeCache([1, 2, 512], bytes))).toContain('512');
    await other.append(Array.from({ length: 48 }, (_, i) => i));
    expect(refused(() => other.writeCache([1, 2, 3], bytes))).toBe(
      '3 tokens do not fit: 48 of 50 positions are in use',
    );
    fake.allow(0);
    const running = read(one.generate([7], { maxTokens: 3 }));
    expect(refused(() => one.copyFrom(other, 3))).toContain('busy');
    expect(refused(() => one.writeCache([1, 2, 3], bytes))).toContain('busy');
    fake.allow(Number.POSITIVE_INFINITY);
    expect((await running).ids).toEqual(fakeReply([1, 2, 3, 7], 3));
    await one.close();
    expect(refused(() => one.copyFrom(other, 3))).toContain('closed');
    await using another = engine.open();
    await another.append([4, 5, 6]);
    expect(refused(() => other.copyFrom(one, 1))).toBe('the sequence is closed');
    expect(refused(() => one.readCache(0, 1))).toBe('the sequence is closed');
  });

  it('of no positions is one, too', async () => {
    const engine = await readyEngine({ sequences: 2, context: 50 });
    for (const one of [engine, engine.open()]) {
      const none = one.readCache(0, 0);
      expect(none).toEqual(new Uint8Array());
      one.writeCache([], none);
      expect(one.position).toBe(0);
    }
  });
});

describe('the last tokens of a prompt beside many replies', () => {
  /** Passes that have tokens of one prompt alone, which is so long and begins beside eight replies. */
  async function chunks(length: number, options: Partial<GenerateOptions> = {}) {
    const engine = await readyEngine({ device: 8, sequences: 9, context: 300 });
    const prompt = Array.from({ length }, (_, i) => 20 + i);
    const ids = [1, 2, 3, 4, 5, 6, 7, 8];
    const replies = await together([
      ...ids.map((id) => () => reply(engine, [id], { maxTokens: 40 })),
      () => reply(engine, prompt, { maxTokens: 3, ...options }),
    ]);
    const last = options.sampling ? fakePenalisedReply(prompt, 3) : fakeReply(prompt, 3);
    expect(replies.map(({ said }) => said)).toEqual([...ids.map((id) => fakeReply([id], 40)), last]);
    return fake.chunks();
  }

  it('have no pass of their own where they are few, and what is chosen behind them does not count', async () => {
    const counted: number[] = [];
    for (const length of [1, 2, 4, 5, 8, 9]) counted.push(await chunks(length));
    expect(counted).toEqual([0, 0, 0, 1, 1, 2]);
  });

  it('have one, behind the pass under way that has one of them, once the others have left', async () => {
    const engine = await readyEngine({ device: 8, sequences: 9, context: 300 });
    const prompt = [20, 21, 22, 23];
    const abort = new AbortController();
    const goOn = async (passes: number) => {
      const all = fake.work().passes + passes;
      fake.allow(passes);
      await until(
        () => fake.work().passes === all,
        () => `${all} passes, but ${fake.work().passes}`,
      );
    };
    fake.allow(0);
    const signals = [1, 2, 3, 4, 5, 6, 7, 8].map((id) => (id < 3 ? {} : { signal: abort.signal }));
    const replies = signals.map((signal, i) => reply(engine, [i], { maxTokens: 40, ...signal }));
    await turn();
    await goOn(4);
    const joined = reply(engine, prompt, { maxTokens: 3 });
    await turn();
    await goOn(1); // the first of the prompt's tokens is in the pass behind the next
    abort.abort();
    await goOn(1);
    fake.allow(Number.POSITIVE_INFINITY);
    expect((await joined).said).toEqual(fakeReply(prompt, 3));
    const ends = (await Promise.all(replies)).map(({ finish }) => finish);
    expect(ends).toEqual(['length', 'length', ...Array.from({ length: 6 }, () => 'abort')]);
    expect(fake.chunks()).toBe(1);
  });

  it('have one where something depends on each choice', async () => {
    expect(await chunks(4, { sampling: { ...greedy, repetition_penalty: 1.1 } })).toBe(1);
    expect(await chunks(4, { logprobs: { top: 1, onLogprobs: () => {} } })).toBe(1);
  });
});
