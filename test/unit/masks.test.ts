// Masks of tokens, over a backend that stands in for a model: each token waits for its own, and nothing else waits.
import { describe, expect, it } from 'vitest';
import type { MaskOrEnd, TokenMask } from '../../runtime/engine/token-masks.ts';
import { maskOf as wordsOf } from '../support/choices.ts';
import { fakeEngines } from '../support/fake-engines.ts';
import { fakeReply, vocab } from '../support/host-fake.ts';
import { read } from '../support/read-reply.ts';
import { failureOf } from '../support/refusal.ts';

const { fake, readyEngine } = await fakeEngines();
const maskOf = (ids: readonly number[]) => wordsOf(ids, vocab);

/** Masks one after another, and the tokens that were chosen under them. */
function masksOf(masks: readonly MaskOrEnd[]) {
  const chosen: number[] = [];
  const mask: TokenMask = {
    next: (tokens) => {
      chosen.push(...tokens);
      return masks[chosen.length]!;
    },
  };
  return { mask, chosen };
}

describe.each([
  ['in host memory', 0],
  ['on a device', 1],
  ['on a device of many steps', 2],
  ['on a device that takes prompts of many tokens', 3],
  ['on a device that takes prompts of many tokens, without their logits', 5],
  ['on a device that asks', 6],
])('masks over a backend %s', (_, device) => {
  const prompt = Array.from({ length: 9 }, (_, i) => i);

  it('each token is chosen under its own, the first one too; none is any', async () => {
    const engine = await readyEngine({ device, context: 100 });
    const any = fakeReply([...prompt, 31, 32], 1)[0]!;
    const { mask, chosen } = masksOf([maskOf([31]), maskOf([32]), null, maskOf([511]), maskOf([0]), 'end']);
    const { ids, finish } = await read(engine.generate(prompt, { maxTokens: 50, mask }));
    expect(ids).toEqual([31, 32, any, 511, 0]);
    expect(chosen).toEqual(ids);
    expect(finish).toBe('stop');
    engine.reset(0);
    // The reply behind it has none.
    expect((await read(engine.generate(prompt, { maxTokens: 5 }))).ids).toEqual(fakeReply(prompt, 5));
  });

  it('ends where it would without them: stop tokens, maxTokens, the context', async () => {
    const engine = await readyEngine({ device, context: 12 });
    const mask: TokenMask = { next: () => maskOf([8, 9]) };
    const short = await read(engine.generate([1], { maxTokens: 3, mask }));
    expect(short.finish).toBe('length');
    engine.reset(0);
    const stopped = await read(engine.generate([1], { maxTokens: 9, stopIds: [8, 9], mask }));
    expect([stopped.ids.length, stopped.finish]).toEqual([1, 'stop']);
    engine.reset(0);
    const full = await read(engine.generate([1], { maxTokens: 90, mask }));
    expect([full.ids.length, full.finish]).toEqual([12, 'context']);
  });

  it('one that allows nothing, or has other words, or that throws ends the reply with that error', async () => {
    const engine = await readyEngine({ device, context: 100 });
    const failing = (mask: TokenMask) => failureOf(read(engine.generate([1], { maxTokens: 9, mask })));
    expect((await failing(masksOf([maskOf([5]), maskOf([])]).mask)).message).toContain(
      'the mask allows no token',
    );
    expect((await failing({ next: () => new Int32Array(3) })).message).toContain('the mask has 3 words');
    const thrown = read(
      engine.generate([1], { maxTokens: 9, mask: { next: () => Promise.reject(new Error('no grammar')) } }),
    );
    await expect(thrown).rejects.toThrow('no grammar');
    engine.reset(0);
    expect((await read(engine.generate(prompt, { maxTokens: 5 }))).ids).toEqual(fakeReply(prompt, 5));
  });

  it('a reply that waits for its mask ends when it is left, aborted or its engine is closed', async () => {
    const engine = await readyEngine({ device, context: 100 });
    const never: TokenMask = {
      next: (tokens) => (tokens.length === 0 ? maskOf([3]) : new Promise(() => {})),
    };
    for await (const batch of engine.generate([1], { maxTokens: 9, mask: never })) {
      expect(batch).toEqual([3]);
      break;
    }
    engine.reset(0);
    const stop = new AbortController();
    const reply = engine.generate([1], { maxTokens: 9, mask: never, signal: stop.signal });
    expect((await reply.next()).value).toEqual([3]);
    stop.abort();
    expect((await reply.next()).value).toMatchObject({ finish: 'abort' });
    engine.reset(0);
    const last = engine.generate([1], { maxTokens: 9, mask: never });
    expect((await last.next()).value).toEqual([3]);
    engine.close();
    expect((await failureOf(last.next())).message).toContain('closed');
  });

  it('one that nobody needs any more ends the reply, which is not complete', async () => {
    const engine = await readyEngine({ device, context: 100 });
    const { mask } = masksOf([maskOf([3]), 'abort']);
    expect(await read(engine.generate([1], { maxTokens: 9, mask }))).toMatchObject({
      ids: [3],
      finish: 'abort',
    });
  });

  it('one behind the last token ends no reply, whether it fails or never comes', async () => {
    const engine = await readyEngine({ device, context: 100 });
    const behindTwo = (last: () => Promise<MaskOrEnd>): TokenMask => {
      let chosen = 0;
      return {
        next: (tokens) => {
          chosen += tokens.length;
          return chosen < 2 ? maskOf([7]) : last();
        },
      };
    };
    const failing = behindTwo(() => Promise.reject(new Error('no grammar')));
    const whole = { ids: [7, 7], finish: 'length' };
    expect(await read(engine.generate([1], { maxTokens: 2, mask: failing }))).toMatchObject(whole);
    const leaving = new AbortController();
    const never = behindTwo(() => {
      setImmediate(() => leaving.abort());
      return new Promise(() => {});
    });
    const { signal } = leaving;
    expect(await read(engine.generate([1], { maxTokens: 2, mask: never, signal }))).toMatchObject(whole);
  });

  it('sequences have their own, and do not wait for those of others', async () => {
    const engine = await readyEngine({ device, sequences: 3, context: 100 });
    await using held = engine.open();
    await using masked = engine.open();
    await using plain = engine.open();
    let release = (_: Int32Array) => {};
    const waits = held.generate([7], {
      maxTokens: 1,
      mask: {
        next: () =>
          new Promise<Int32Array>((resolve) => {
            release = resolve;
          }),
      },
    });
    const first = waits.next();
    const { mask } = masksOf(Array.from({ length: 21 }, (_, i) => (i < 20 ? maskOf([i + 40]) : 'end')));
    const [said, free] = await Promise.all([
      read(masked.generate(prompt, { maxTokens: 50, mask })),
      read(plain.generate(prompt, { maxTokens: 30 })),
    ]);
    expect([said.ids, said.finish]).toEqual([Array.from({ length: 20 }, (_, i) => i + 40), 'stop']);
    expect(free.ids).toEqual(fakeReply(prompt, 30));
    release(maskOf([77]));
    expect((await first).value).toEqual([77]);
    // All that is left waits: the engine's passes do too, until it is asked to end.
    const never = plain.generate([1], {
      maxTokens: 9,
      mask: { next: () => new Promise<Int32Array>(() => {}) },
    });
    const ending = never.next();
    await turn();
    await plain.close();
    expect((await ending).value).toMatchObject({ finish: 'abort' });
  });

  it('one that comes when its sequence was closed is not for the reply that has its place', async () => {
    const engine = await readyEngine({ device, sequences: 2, context: 100 });
    const left = engine.open();
    let late = (_: Int32Array) => {};
    const unread = left.generate([1], {
      maxTokens: 9,
      mask: {
        next: (tokens) =>
          tokens.length === 0
            ? maskOf([3])
            : new Promise<Int32Array>((resolve) => {
                late = resolve;
              }),
      },
    });
    expect((await unread.next()).value).toEqual([3]);
    await left.close();
    await using sequence = engine.open();
    let inTime = (_: Int32Array) => {};
    const reply = read(
      sequence.generate([1], {
        maxTokens: 1,
        mask: {
          next: (tokens) =>
            tokens.length > 0
              ? null
              : new Promise<Int32Array>((resolve) => {
                  inTime = resolve;
                }),
        },
      }),
    );
    await turn();
    late(maskOf([77]));
    await turn();
    inTime(maskOf([5]));
    expect((await reply).ids).toEqual([5]);
    expect((await unread.next()).value).toMatchObject({ finish: 'abort' });
  });
});

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe.each([
  ['in host memory', 0],
  ['on a device', 6],
])('masks over a backend %s that asks for them in front of its choice', (_, device) => {
  /** Masks, each there once the backend has the pass that it is of, `first` requests behind the first. */
  const lateMasks = (first: number, masks: readonly (Int32Array | 'end')[]): TokenMask => {
    let at = 0;
    return {
      next: async () => {
        while (at > 0 && fake.work().requests < first + at) await turn();
        return masks[at++]!;
      },
    };
  };

  it('the pass of a token runs while its mask is made', async () => {
    const engine = await readyEngine({ device, context: 100 });
    const mask = lateMasks(1, [maskOf([31]), maskOf([32]), maskOf([33]), 'end']);
    expect((await read(engine.generate([1, 2], { maxTokens: 9, mask }))).ids).toEqual([31, 32, 33]);
  });

  it('so do those of several sequences, in one', async () => {
    const engine = await readyEngine({ device, sequences: 3, context: 100 });
    await using first = engine.open();
    await using second = engine.open();
    const masks = [31, 32, 33, 34].map((id) => maskOf([id]));
    const replies = [first, second].map((sequence) => {
      const mask = lateMasks(2, [...masks, 'end']);
      return read(sequence.generate([1, 2], { maxTokens: 9, mask }));
    });
    for (const { ids } of await Promise.all(replies)) expect(ids).toEqual([31, 32, 33, 34]);
    expect(fake.mostRows()).toBe(2);
  });

  it('a pass that asks does not wait for a reply that has ended before it', async () => {
    const engine = await readyEngine({ device, sequences: 3, context: 100 });
    await using masked = engine.open();
    // The reply ends while its second pass is launched.
    const { mask } = masksOf([maskOf([40]), 'end']);
    const { ids } = await read(masked.generate([1, 501], { maxTokens: 9, mask }));
    expect(ids).toEqual([40]);
    expect(masked.position).toBe(2);
  });

  it('a pass that asks is left for whoever can go on, and made again', async () => {
    const engine = await readyEngine({ device, sequences: 3, context: 100 });
    await using masked = engine.open();
    await using plain = engine.open();
    let free: number[] = [];
    const mask: TokenMask = {
      next: async ([token]) => {
        if (token === undefined) return maskOf([40]);
        if (token === 40) {
          while (fake.work().requests < 2) await turn();
          free = (await read(plain.generate([5, 6], { maxTokens: 12 }))).ids;
          return null;
        }
        return 'end';
      },
    };
    const { ids } = await read(masked.generate([1, 2], { maxTokens: 9, mask }));
    expect(free).toEqual(fakeReply([5, 6], 12));
    expect(ids).toEqual([40, fakeReply([1, 2, 40], 1)[0]]);
    expect(masked.position).toBe(3);
  });
});

it('on a device the next pass is launched behind the choice, before anyone knows the token', async () => {
  const all = Array.from({ length: 5 }, (_, i) => maskOf([i + 40]));
  const engine = await readyEngine({ device: 6, context: 100 });
  const { mask, chosen } = masksOf(all);
  expect((await read(engine.generate([1, 2], { maxTokens: 5, mask }))).ids).toEqual([40, 41, 42, 43, 44]);
  expect([chosen, fake.mostOutstanding()]).toEqual([[40, 41, 42, 43, 44], 2]);

  const several = await readyEngine({ device: 6, sequences: 3, context: 100 });
  await using first = several.open();
  await using second = several.open();
  const replies = [first, second].map((sequence) =>
    read(sequence.generate([1, 2], { maxTokens: 5, mask: masksOf(all).mask })),
  );
  for (const { ids } of await Promise.all(replies)) expect(ids).toEqual([40, 41, 42, 43, 44]);
  expect(fake.mostOutstanding()).toBe(2);
});

it('a pass launched behind the last token is left, not asked', async () => {
  const engine = await readyEngine({ device: 6, context: 100 });
  const mask: TokenMask = {
    next: async ([token]) => {
      while (token === 41 && fake.work().waits < 3) await turn();
      return maskOf([token === undefined ? 40 : 41]);
    },
  };
  const { ids, finish } = await read(engine.generate([1, 2], { maxTokens: 9, stopIds: [41], mask }));
  expect([ids, finish, engine.position]).toEqual([[40, 41], 'stop', 3]);
  expect(fake.work().waits).toBe(3);
});
