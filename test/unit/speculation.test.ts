// Drafts, over a backend that stands in for a model: they change how many passes there are, and nothing else.

import { describe, expect, it } from 'vitest';
import type { Speculate } from '../../runtime/engine/options.ts';
import { always, draftingOn, repeating } from '../support/drafts.ts';
import { fakeEngines } from '../support/fake-engines.ts';
import { type Fake, fakeReply, tokens } from '../support/host-fake.ts';
import { wholeNumbers } from '../support/random.ts';
import { read } from '../support/read-reply.ts';
import { failureOf } from '../support/refusal.ts';

const { fake, readyEngine } = await fakeEngines();

const { reply, both } = draftingOn(fake);
type Drafts = Parameters<Fake['drafts']>[0];

describe.each([
  ['in host memory', 0],
  ['on a device', 1],
  ['on a device that takes many steps in one request, and whose drafts have room by their position', 4],
])('drafts over a backend %s', (_, device) => {
  it('give the reply without them to 500 random prompts, in no more passes', async () => {
    const engine = await readyEngine({ device, context: 96 });
    const below = wholeNumbers(device + 1);
    let saved = 0;
    let wrong = 0;
    for (let i = 0; i < 500; i++) {
      fake.drafts((['usual', 'usual', 'garbage', 'half'] as Drafts[])[below(4)]!);
      const prompt = Array.from({ length: 1 + below(40) }, () => below(below(2) ? 4 : 256));
      const sampling = {
        ...repeating(below(6), [0, 0.02, 0.1, 0.4][below(4)]!, below(3)),
        repetition_penalty: below(3) === 0 ? 1.1 : 1,
      };
      const stopIds = below(3) === 0 ? Array.from({ length: 8 }, () => below(256)) : [];
      const speculate = { tokens: 1 + below(5), ngram: 1 + below(4) };
      const { plain, checked } = await both(
        engine,
        prompt,
        { maxTokens: 1 + below(90), sampling, stopIds },
        speculate,
      );
      // A device has begun with passes that are then of no use: those ahead, or steps behind the end of the reply.
      expect(checked.passes).toBeLessThanOrEqual(plain.passes + [0, 2, 2, 2, 8][device]!);
      expect(checked.accepted).toBeLessThanOrEqual(checked.drafted);
      saved += checked.accepted;
      wrong += checked.drafted - checked.accepted;
    }
    expect(saved).toBeGreaterThan(1000);
    expect(wrong).toBeGreaterThan(1000);
  });

  it('save a pass for each that is right', async () => {
    const engine = await readyEngine({ device: 0 });
    const { plain, checked } = await both(engine, [1, 2, 3], { maxTokens: 101, sampling: repeating(5, 0) });
    expect(plain.passes).toBe(1 + 100);
    expect(checked.passes).toBe(plain.passes - checked.accepted);
    // The first 7 tokens have the text once, and so the 4 tokens of a pass from there on.
    expect(checked.passes).toBeLessThan(1 + 8 + 100 / 4);
  });

  it('cost no pass when all are wrong', async () => {
    const engine = await readyEngine({ device: 0 });
    fake.drafts('garbage');
    const { plain, checked } = await both(engine, [1, 2, 3], { maxTokens: 50 });
    expect(checked.drafted).toBeGreaterThan(140);
    expect(checked).toMatchObject({ accepted: 0, passes: plain.passes });
  });

  it('are kept up to the first that is wrong', async () => {
    const engine = await readyEngine({ device });
    fake.drafts('half');
    const { checked } = await both(engine, [1, 2, 3], { maxTokens: 31, sampling: repeating(5, 0) });
    // Two of three are right, and the token behind them is chosen by the same pass. The last has room for two.
    const passes = device < 2 ? { drafted: 29, accepted: 20, passes: 11 } : { passes: 13 };
    expect(checked).toMatchObject(passes);
  });

  it.each(Array.from({ length: 12 }, (_, i) => i + 20))(
    'end at maxTokens %i in their middle',
    async (maxTokens) => {
      const engine = await readyEngine({ device });
      const { checked } = await both(engine, [1, 2], { maxTokens, sampling: repeating(3, 0) });
      expect(checked.said.ids.length).toBe(maxTokens);
      expect(checked.accepted).toBeGreaterThan(5);
    },
  );

  it.each(Array.from({ length: 12 }, (_, i) => i + 30))(
    'end with a context of %i in their middle',
    async (context) => {
      const engine = await readyEngine({ device, context });
      const { checked } = await both(engine, [1, 2], { maxTokens: 99, sampling: repeating(3, 0) });
      expect(checked.said).toMatchObject({ finish: 'context', position: context });
      expect(checked.accepted).toBeGreaterThan(5);
    },
  );

  it('end with a stop token in their middle, and what follows sees none of the rest', async () => {
    const engine = await readyEngine({ device });
    fake.drafts('half');
    // The first time that a token comes is never within what repeats: these stops are drafted by the fake itself.
    for (let at = 0; at < 5; at++) {
      const sampling = repeating(5, 0);
      const { said } = await reply(engine, [9, 9, 9], { maxTokens: 5, sampling, speculate: 'off' });
      const ids = said.ids.slice(0, said.ids.indexOf(said.ids[at]!) + 1);
      const { checked } = await both(engine, [9, 9, 9], { maxTokens: 60, sampling, stopIds: ids.slice(-1) });
      expect(checked.said).toMatchObject({ finish: 'stop', position: 2 + ids.length });
      const next = await read(engine.generate([...ids.slice(-1), 7], { maxTokens: 3, speculate: always }));
      expect(next.ids).toEqual(fakeReply([9, 9, 9, ...ids, 7], 3));
    }
  });

  it('end where the reply is left, and go on from there', async () => {
    const engine = await readyEngine({ device });
    const sampling = repeating(4, 0.05);
    const options = { maxTokens: 200, sampling, speculate: always };
    const whole = await reply(engine, [9, 5], { ...options, speculate: 'off' });
    for (const after of [1, 5, 6, 7, 8, 30]) {
      engine.reset(0);
      const said: number[] = [];
      fake.allow(after);
      for await (const batch of engine.generate([9, 5], options)) {
        said.push(...batch);
        if (said.length >= after) break;
      }
      // What the engine has beyond what was read follows from its position.
      const { position } = engine;
      expect(whole.said.ids.slice(0, said.length)).toEqual(said);
      engine.reset(0);
      const again = [9, 5, ...whole.said.ids].slice(0, position);
      await read(engine.generate(again, { maxTokens: 1 }));
      const more = await read(engine.generate([77], { maxTokens: 4, speculate: always }));
      expect(more.ids).toEqual(fakeReply([...again, 77], 4));
    }
  });

  it('name the position of logits that are not finite as without them', async () => {
    for (const speculate of ['off', always] as const) {
      const engine = await readyEngine({ device });
      await read(engine.generate([1, 2, 1, 2, 1], { maxTokens: 4, sampling: repeating(2, 0), speculate }));
      const failed = await failureOf(read(engine.generate([tokens.nan], { maxTokens: 4, speculate })));
      expect(failed.message).toBe('the logits are not finite at position 8');
    }
  });

  it('are refused where they are no numbers, or out of their range', async () => {
    const engine = await readyEngine({ device });
    const refused = async (speculate: unknown) =>
      (await failureOf(read(engine.generate([1], { maxTokens: 1, speculate: speculate as Speculate }))))
        .message;
    expect(await refused('on')).toBe("speculate is neither 'auto' nor 'off' nor { tokens, ngram }");
    expect(await refused(null)).toBe("speculate is neither 'auto' nor 'off' nor { tokens, ngram }");
    expect(await refused({ tokens: 0 })).toBe('speculate.tokens is 0, not an integer from 1 to 2147483647');
    expect(await refused({ tokens: 2, ngram: 17 })).toBe(
      'speculate.ngram is 17, not an integer from 1 to 16',
    );
  });
});

describe("speculate: 'auto'", () => {
  it('is the same reply, and drafts text that repeats', async () => {
    const engine = await readyEngine({ context: 4096 });
    const { checked } = await both(
      engine,
      [tokens.slow],
      { maxTokens: 120, sampling: repeating(5, 0) },
      'auto',
    );
    expect(checked.accepted).toBeGreaterThan(40);
  });

  it('begins with what the replies before have left to spend', async () => {
    const engine = await readyEngine({ context: 4096 });
    const short = { maxTokens: 24, sampling: repeating(3, 0), speculate: 'auto' } as const;
    const saving = await reply(engine, [tokens.slow], short);
    expect(saving.drafted).toBe(0);
    await reply(engine, [tokens.slow], { maxTokens: 100, speculate: 'auto' });
    const spending = await reply(engine, [tokens.slow], short);
    expect(spending.said.ids).toEqual(saving.said.ids);
    expect(spending.accepted).toBeGreaterThan(8);
  });

  it('drafts little where all is wrong', async () => {
    const engine = await readyEngine({ context: 4096 });
    fake.drafts('garbage');
    const { checked } = await both(engine, [tokens.slow], { maxTokens: 100 }, 'auto');
    expect(checked.drafted).toBeLessThan(40);
  });

  it.each(['auto', always] as const)(
    'lets passes run ahead where nothing repeats (%j)',
    async (speculate) => {
      const engine = await readyEngine({ device: 4, context: 4096 });
      const { said } = await reply(engine, [1, 2, 3], { maxTokens: 100, speculate });
      expect(said.ids).toEqual(fakeReply([1, 2, 3], 100));
      expect(fake.mostOutstanding()).toBe(2);
    },
  );

  it.each([2, 3])('drafts nothing on device %i, which cannot check', async (device) => {
    const engine = await readyEngine({ device });
    const { checked } = await both(engine, [1, 2, 3], { maxTokens: 100, sampling: repeating(5, 0) }, 'auto');
    expect(checked.drafted).toBe(0);
  });
});

it.each([2, 3])('drafts are refused by device %i, which cannot check them', async (device) => {
  const engine = await readyEngine({ device });
  const failed = await failureOf(read(engine.generate([1], { maxTokens: 1, speculate: always })));
  expect(failed).toMatchObject({
    kind: 'usage',
    message:
      'speculate: this engine cannot check drafts, since its passes of several tokens round other than those of one; leave it out, or say off',
  });
  expect((await read(engine.generate([1], { maxTokens: 1, speculate: 'off' }))).ids).toEqual(
    fakeReply([1], 1),
  );
});
