// Several sequences of an engine, over a backend that stands in for a model: each says what it says alone, whatever its neighbours do.

import { describe, expect, it } from 'vitest';
import type { Sampling } from '../../runtime/bindings.ts';
import type { Engine } from '../../runtime/engine.ts';
import type { Sequence, SequenceOptions } from '../../runtime/sequence.ts';
import { failureOf, fakeEngines, greedy, randomSources } from '../support/fake-engines.ts';
import { fakePenalisedReply, fakeReply, tokens } from '../support/host-fake.ts';
import { read } from '../support/read-reply.ts';

const { fake, readyEngine } = await fakeEngines();

const random = (seed: number) => {
  let state = seed;
  return (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
};

/** A sequence that begins with these tokens. */
function opened(engine: Engine, ids: readonly number[]): Sequence {
  const sequence = engine.open();
  sequence.append(ids);
  return sequence;
}

/** Starts all of them before the first pass goes on. */
async function together<T>(begin: readonly (() => Promise<T>)[]): Promise<T[]> {
  fake.hold(true);
  const all = Promise.all(begin.map((each) => each()));
  // What begins a reply runs before the next turn of the loop.
  await new Promise((resolve) => setImmediate(resolve));
  fake.hold(false);
  return await all;
}

/** The reply to a prompt in a sequence of its own. */
async function reply(engine: Engine, ids: readonly number[], options: SequenceOptions) {
  await using sequence = opened(engine, ids);
  const { ids: said, finish } = await read(sequence.generate(options));
  return { said, finish };
}

describe.each([
  ['in host memory', 0],
  ['on a device', 1],
  ['on a device whose passes have one sequence', 2],
  ['on a device that takes prompts of many tokens', 3],
])('sequences over a backend %s', (_, device) => {
  const ready = (sequences = 4) => readyEngine({ device, sequences, context: 300 });

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
    expect(fake.mostRows()).toBe(device < 2 ? 4 : 0);
  });

  it('join and leave at any pass', async () => {
    const engine = await ready(9);
    const below = random(device + 1);
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
    // More decoded than a pass has rows: they took turns.
    expect(fake.mostRows()).toBe(device < 2 ? 4 : 0);
  });

  it('go on behind their replies, and where they are reset', async () => {
    const engine = await ready(2);
    await using other = opened(engine, [9, 9]);
    const beside = read(other.generate({ maxTokens: 250 }));
    await using sequence = opened(engine, [1, 2, 3]);
    const first = (await read(sequence.generate({ maxTokens: 5 }))).ids;
    expect(sequence.length).toBe(8);
    const more = (await read(sequence.generate({ maxTokens: 5 }))).ids;
    expect([...first, ...more]).toEqual(fakeReply([1, 2, 3], 10));
    sequence.append([4, 5]);
    expect((await read(sequence.generate({ maxTokens: 4 }))).ids).toEqual(
      fakeReply([1, 2, 3, ...first, ...more, 4, 5], 4),
    );
    sequence.reset(6);
    expect((await read(sequence.generate({ maxTokens: 4 }))).ids).toEqual(
      fakeReply([1, 2, 3, ...first.slice(0, 3)], 4),
    );
    sequence.append([7, 7]);
    sequence.reset(11);
    expect(sequence.length).toBe(11);
    sequence.reset();
    sequence.append([5]);
    expect((await read(sequence.generate({ maxTokens: 3 }))).ids).toEqual(fakeReply([5], 3));
    expect((await beside).ids).toEqual(fakeReply([9, 9], 250));
  });

  it('end alone when aborted or left, and free their place', async () => {
    const engine = await ready(3);
    await using slow = opened(engine, [tokens.slow, 1]);
    const beside = read(slow.generate({ maxTokens: 12 }));
    const abort = new AbortController();
    await using aborted = opened(engine, [2, 3]);
    const cut = aborted.generate({ maxTokens: 200, signal: abort.signal });
    const said = (await cut.next()).value as number[];
    abort.abort();
    const rest = await read(cut);
    expect(rest.finish).toBe('abort');
    const all = [...said, ...rest.ids];
    expect(all).toEqual(fakeReply([2, 3], 200).slice(0, all.length));
    expect(all.length).toBeLessThan(200);
    expect(aborted.length).toBe(2 + all.length);
    // It goes on where it was aborted.
    expect((await read(aborted.generate({ maxTokens: 3 }))).ids).toEqual(fakeReply([2, 3, ...all], 3));
    const left = opened(engine, [4]);
    for await (const batch of left.generate({ maxTokens: 200 })) {
      expect(batch.length).toBeGreaterThan(0);
      break;
    }
    expect(left.length).toBeLessThan(200);
    await left.close();
    expect((await reply(engine, [6], { maxTokens: 3 })).said).toEqual(fakeReply([6], 3));
    const never = read(aborted.generate({ maxTokens: 3, signal: AbortSignal.abort() }));
    expect(await never).toMatchObject({ ids: [], finish: 'abort' });
    expect((await beside).ids).toEqual(fakeReply([tokens.slow, 1], 12));
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
      expect(other.said).toEqual(fakeReply([8, 8, 8], 9));
    }
    expect((await beside).said).toEqual(fakeReply([tokens.slow, 5], 20));
  });

  it('end where the context ends, each by itself', async () => {
    const engine = await readyEngine({ device, sequences: 2, context: 20 });
    await using full = opened(engine, [1, 2, 3, 4]);
    await using other = opened(engine, [5]);
    const [{ ids, finish }, beside] = await Promise.all([
      read(full.generate({ maxTokens: 1000 })),
      read(other.generate({ maxTokens: 10 })),
    ]);
    expect({ ids, finish }).toEqual({ ids: fakeReply([1, 2, 3, 4], 17), finish: 'context' });
    expect(beside.ids).toEqual(fakeReply([5], 10));
    expect(() => full.append([1])).toThrow('1 tokens do not fit: the sequence has 21, and room for 20');
    expect((await failureOf(read(full.generate({ maxTokens: 1 })))).message).toBe(
      '0 tokens do not fit: the sequence has 21, and room for 20',
    );
    full.reset(18);
    expect((await read(full.generate({ maxTokens: 9 }))).ids).toEqual(
      fakeReply([1, 2, 3, 4], 17).slice(14, 17),
    );
  });

  it('are refused while something else is in their way, and nothing is disturbed', async () => {
    const engine = await ready(2);
    const sequence = opened(engine, [tokens.slow]);
    const running = sequence.generate({ maxTokens: 6 });
    const first = (await running.next()).value as number[];
    const busy = 'the sequence is busy with another reply';
    expect((await failureOf(read(sequence.generate({ maxTokens: 1 })))).message).toBe(busy);
    expect(() => sequence.append([1])).toThrow(busy);
    expect(() => sequence.reset()).toThrow(busy);
    for (const job of [
      () => read(engine.generate([1], { maxTokens: 1 })),
      () => engine.score([1], 0),
      () => engine.load(randomSources()),
    ]) {
      expect((await failureOf(job())).message).toBe('sequences of the engine are replying');
    }
    expect(() => engine.reset()).toThrow('sequences of the engine are replying');
    const second = engine.open();
    expect(() => engine.open()).toThrow('no sequence is free: all 2 are open; close one first');
    expect((await failureOf(read(second.generate({ maxTokens: 1 })))).message).toBe(
      'the sequence is empty: append tokens first',
    );
    await second.close();
    expect([...first, ...(await read(running)).ids]).toEqual(fakeReply([tokens.slow], 6));
    expect((await failureOf(engine.load(randomSources()))).message).toContain('sequences are open');
    await sequence.close();
    await sequence.close();
    expect(() => sequence.append([1])).toThrow('the sequence is closed');
    await engine.load(randomSources());
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
    await using own = opened(engine, [5, 6]);
    expect((await failureOf(read(engine.generate([1], { maxTokens: 1 })))).message).toBe(
      "the engine's own sequence has no place: all 2 are open; close one first",
    );
    expect((await read(own.generate({ maxTokens: 4 }))).ids).toEqual(fakeReply([5, 6], 4));
    expect(beside.length).toBe(0);
  });

  it('end when the engine is closed: without waiting they fail, with waiting they are aborted', async () => {
    const closed = await ready(3);
    const endless = { maxTokens: 290 };
    const replies = [1, 2, 3].map((id) => read(opened(closed, [tokens.slow, id]).generate(endless)));
    const outcomes = replies.map((each) => failureOf(each));
    closed.close();
    for (const { message } of await Promise.all(outcomes)) {
      expect(message).toBe('the engine was closed during this job');
    }
    const ended = await ready(3);
    const sequences = [1, 2, 3].map((id) => opened(ended, [tokens.slow, id]));
    const more = sequences.map((sequence) => read(sequence.generate(endless)));
    await Promise.race(more.map(() => new Promise((resolve) => setImmediate(resolve))));
    await ended[Symbol.asyncDispose]();
    for (const { finish } of await Promise.all(more)) expect(finish).toBe('abort');
    expect(() => sequences[0]!.append([1])).toThrow('the engine is closed');
    await sequences[0]!.close();
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
    const sequence = engine.open();
    expect(() => sequence.append([512])).toThrow('ids[0] is 512');
    expect(() => sequence.reset(1)).toThrow('length is 1, not an integer from 0 to 0');
    const drafts = { maxTokens: 1, speculate: { tokens: 2 } } as SequenceOptions;
    expect((await failureOf(read(sequence.generate(drafts)))).message).toContain('speculate');
  });
});
