// Masks that are given ahead, for tokens that are expected: they change how many passes a reply has, and nothing else.
import { describe, expect, it } from 'vitest';
import type { GenerateOptions } from '../../runtime/engine/options.ts';
import type { Foreseen, TokenMask } from '../../runtime/engine/token-masks.ts';
import { maskOf as wordsOf } from '../support/choices.ts';
import { fakeEngines, greedy } from '../support/fake-engines.ts';
import { tokens, vocab } from '../support/host-fake.ts';
import { read } from '../support/read-reply.ts';
import { failureOf } from '../support/refusal.ts';

const { fake, readyEngine } = await fakeEngines();
const maskOf = (ids: readonly number[]) => wordsOf(ids, vocab);
const turn = () => new Promise((resolve) => setImmediate(resolve));

/** What may come behind tokens: often one alone, at times two, at times all; at times the end. */
function allowed(seed: number, tokens: readonly number[]): readonly number[] | null | 'end' {
  const hash = tokens.reduce((h, token) => Math.imul(h ^ token, 2654435761) >>> 3, seed * 977 + 5);
  if (hash % 61 === 60 && tokens.length > 0) return 'end';
  if (hash % 7 === 6) return null;
  return hash % 7 > 3 ? [hash % 251, (hash + 100) % 251] : [hash % 251];
}

/** Masks of that, and what is expected: the only one, the first of two, or at times another one. @param waits turns of the event loop behind which it is told */
function scripted(seed: number, waits = 0): TokenMask & { foreseen: number } {
  const chosen: number[] = [];
  const wordsOf = (ids: readonly number[] | null) => ids && maskOf(ids);
  return {
    foreseen: 0,
    next(tokens) {
      chosen.push(...tokens);
      const ids = allowed(seed, chosen);
      return ids === 'end' ? ids : wordsOf(ids);
    },
    foresee() {
      if (seed % 5 === 4 && chosen.length % 3 === 0) return null;
      return async (most): Promise<Foreseen> => {
        this.foreseen++;
        for (let i = 0; i < waits; i++) await turn();
        const tokens: number[] = [];
        const masks: Int32Array[] = [];
        while (tokens.length < most) {
          const ids = allowed(seed, [...chosen, ...tokens]);
          if (ids === null || ids === 'end') break;
          const token = (chosen.length + tokens.length) % 9 === 8 ? 255 : ids[0]!;
          const behind = allowed(seed, [...chosen, ...tokens, token]);
          if (behind === null || behind === 'end') break;
          tokens.push(token);
          masks.push(maskOf(behind));
        }
        return { tokens, masks };
      };
    },
  };
}

const options: GenerateOptions = { maxTokens: 40, sampling: greedy };

describe.each([
  ['in host memory', 0],
  ['on a device that is told before a pass', 1],
  ['on a device of many steps', 2],
  ['on a device that asks, and checks nothing', 6],
  ['on a device that asks, and whose drafts have room by their position', 7],
])('over a backend %s', (_, device) => {
  const checks = device === 0 || device === 7;
  const always = checks ? { tokens: 7 } : 'auto';

  it('replies are those without them, in fewer passes where they are checked', async () => {
    const engine = await readyEngine({ device, context: 60 });
    let [plainPasses, passes, drafted, accepted] = [0, 0, 0, 0];
    for (let seed = 0; seed < 150; seed++) {
      const prompt = Array.from({ length: 1 + (seed % 17) }, (_, i) => (seed + i) % 251);
      const one = async (speculate: GenerateOptions['speculate'], mask: TokenMask) => {
        engine.reset(0);
        const before = fake.work().passes;
        const stopIds = seed % 3 === 0 ? [seed % 251, 3, 4, 5] : [];
        const reply = await read(engine.generate(prompt, { ...options, stopIds, speculate, mask }));
        return { ...reply, position: engine.position, passes: fake.work().passes - before };
      };
      const plain = await one('off', scripted(seed));
      const checked = await one(seed % 2 ? always : 'auto', scripted(seed, seed % 3));
      const said = ({ ids, finish, position }: typeof plain) => ({ ids, finish, position });
      expect(said(checked), `seed ${seed}`).toEqual(said(plain));
      plainPasses += plain.passes;
      passes += checked.passes;
      drafted += checked.drafted;
      accepted += checked.accepted;
    }
    expect(accepted).toBeLessThanOrEqual(drafted);
    if (checks) {
      expect(accepted).toBeGreaterThan(200);
      expect(drafted - accepted).toBeGreaterThan(20);
      expect(passes).toBeLessThan(plainPasses - accepted / 2);
    } else {
      expect([drafted, accepted]).toEqual([0, 0]);
    }
  });

  it('so are those of sequences, several at a time', async () => {
    const engine = await readyEngine({ device, sequences: 4, context: 60 });
    for (let seed = 0; seed < 40; seed += 4) {
      const replies = (speculate: GenerateOptions['speculate']) =>
        Promise.all(
          [0, 1, 2].map(async (i) => {
            await using sequence = engine.open();
            const mask = scripted(seed + i, i);
            const { ids, finish } = await read(
              sequence.generate([seed, i], { ...options, maxTokens: 25, speculate, mask }),
            );
            return { ids, finish, position: sequence.position };
          }),
        );
      expect(await replies('auto')).toEqual(await replies('off'));
    }
  });

  it('what fails while it is told ends the reply with that error', async () => {
    const engine = await readyEngine({ device, context: 60 });
    const reply = (foresee: () => Foreseen | Promise<Foreseen>) => {
      const mask = { next: () => maskOf([5]), foresee: () => foresee };
      return read(engine.generate([1], { ...options, speculate: always, mask }));
    };
    const failing = (foresee: () => Foreseen) => failureOf(reply(foresee));
    await expect(reply(() => Promise.reject(new Error('no grammar')))).rejects.toThrow('no grammar');
    expect((await failing(() => ({ tokens: [vocab], masks: [maskOf([1])] }))).message).toContain(
      `token ${vocab} is expected`,
    );
    expect((await failing(() => ({ tokens: [5], masks: [new Int32Array(3)] }))).message).toContain(
      'the mask has 3 words',
    );
    expect((await failing(() => ({ tokens: [5], masks: [maskOf([])] }))).message).toContain('no token');
  });

  it('a reply that waits for what is expected ends when it is aborted', async () => {
    const engine = await readyEngine({ device, context: 60 });
    const stop = new AbortController();
    const never = new Promise<Foreseen>(() => {});
    const mask: TokenMask = { next: () => maskOf([5]), foresee: () => () => never };
    const reply = engine.generate([1], { ...options, mask, signal: stop.signal, speculate: always });
    expect((await reply.next()).value).toEqual([5]);
    stop.abort();
    expect((await reply.next()).value).toMatchObject({ finish: 'abort' });
  });

  it.each(['mask', 'foreseen', 'failure'])("a %s that comes late is not the next reply's", async (what) => {
    const engine = await readyEngine({ device, context: 60 });
    let come = () => {};
    const late = new Promise<void>((resolve) => {
      come = resolve;
    });
    const mask: TokenMask = {
      next: async (tokens) => {
        if (what === 'mask' && tokens.length > 0) await late;
        return maskOf([5]);
      },
      foresee: () => async () => {
        await late;
        if (what === 'failure') throw new Error('no grammar');
        return { tokens: [5], masks: [maskOf([5])] };
      },
    };
    const left = engine.generate([1], { ...options, mask, speculate: always });
    expect((await left.next()).value).toEqual([5]);
    await left.return({} as never);
    engine.reset(0);
    const seven: TokenMask = { next: () => turn().then(() => maskOf([7])) };
    const reply = read(engine.generate([1], { ...options, mask: seven }));
    come();
    expect(await reply).toMatchObject({ ids: Array(40).fill(7), finish: 'length' });
  });
});

it('nothing is foreseen where no drafts are to be checked', async () => {
  const engine = await readyEngine({ device: 0, context: 60 });
  const mask = scripted(1);
  await read(engine.generate([1], { ...options, speculate: 'off', mask }));
  expect(mask.foreseen).toBe(0);
});

it('penalties count a token before the next one is chosen: what is expected is not checked', async () => {
  const engine = await readyEngine({ device: 0, context: 60 });
  const sampling = { ...greedy, repetition_penalty: 1.1 };
  const { drafted } = await read(
    engine.generate([1], { ...options, sampling, speculate: { tokens: 7 }, mask: scripted(1) }),
  );
  expect(drafted).toBe(0);
});

it('no more are checked in a pass than were asked for', async () => {
  const engine = await readyEngine({ device: 0, context: 60 });
  const mask: TokenMask = {
    next: () => maskOf([5]),
    foresee: () => () => ({
      tokens: [5, 5, 5, 5, 5, 5],
      masks: Array.from({ length: 6 }, () => maskOf([5])),
    }),
  };
  const passesWith = async (tokens: number) => {
    engine.reset(0);
    const before = fake.work().passes;
    const { ids } = await read(
      engine.generate([1], { ...options, maxTokens: 29, speculate: { tokens }, mask }),
    );
    expect(ids).toEqual(Array.from({ length: 29 }, () => 5));
    return fake.work().passes - before;
  };
  // What is told before the next pass begins is all checked; else the first of seven tokens has a pass of its own.
  const [one, three] = [await passesWith(1), await passesWith(3)];
  expect(one).toBeGreaterThanOrEqual(1 + 28 / 2);
  expect(one).toBeLessThanOrEqual(1 + 4 * (3 + 1));
  expect(three).toBeGreaterThanOrEqual(1 + 28 / 4);
  expect(three).toBeLessThanOrEqual(1 + 4 * (2 + 1));
});

describe('checks that choose themselves', () => {
  /** Every token is forced. */
  const foreseen: Foreseen = { tokens: Array(8).fill(5), masks: Array(8).fill(maskOf([5])) };
  const mask: TokenMask = { next: () => maskOf([5]), foresee: () => () => foreseen };
  const drafted = async (first: number) => {
    const engine = await readyEngine({ device: 0, context: 256 });
    const reply = await read(
      engine.generate([first], { ...options, maxTokens: 100, speculate: 'auto', mask }),
    );
    expect(reply.ids).toEqual(Array(100).fill(5));
    return reply.drafted;
  };

  it('take what is forced', async () => {
    expect(await drafted(tokens.slow)).toBeGreaterThan(60);
  });

  it('are few where one takes longer than the passes it saves', async () => {
    expect(await drafted(tokens.dear)).toBeLessThan(25);
  });
});
