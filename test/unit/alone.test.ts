// Drafts of a sequence that decodes alone in an engine of several, over a backend that stands in for a model: fewer passes, and nothing else.

import { describe, expect, it } from 'vitest';
import type { Sequence } from '../../runtime/engine/sequence.ts';
import { always, draftingOn, repeating } from '../support/drafts.ts';
import { fakeEngines } from '../support/fake-engines.ts';
import { wholeNumbers } from '../support/random.ts';
import { read } from '../support/read-reply.ts';
import { failureOf } from '../support/refusal.ts';
import { until } from '../support/within.ts';

const { fake, readyEngine, abortAfter } = await fakeEngines();

const { reply, both } = draftingOn(fake);

/** A prompt, and how it is to be continued. */
function anyAsked(below: (n: number) => number) {
  const prompt = Array.from({ length: 1 + below(40) }, () => below(below(2) ? 4 : 256));
  const sampling = {
    ...repeating(below(6), [0, 0.02, 0.1, 0.4][below(4)]!),
    repetition_penalty: below(3) === 0 ? 1.1 : 1,
  };
  const stopIds = below(3) === 0 ? Array.from({ length: 8 }, () => below(256)) : [];
  return { prompt, options: { maxTokens: 1 + below(90), sampling, stopIds } };
}

describe.each([
  ['on a device', 1],
  ['on a device that takes many steps in one request, and whose drafts have room by their position', 4],
])('a sequence alone, over a backend %s', (_, device) => {
  it('replies with drafts as without, to 300 random prompts', async () => {
    const engine = await readyEngine({ device, context: 96, sequences: 3 });
    await using sequence = engine.open();
    await using _other = engine.open();
    const below = wholeNumbers(device + 1);
    let [drafted, accepted] = [0, 0];
    for (let i = 0; i < 300; i++) {
      const { prompt, options } = anyAsked(below);
      const speculate = below(2) ? ('auto' as const) : { tokens: 1 + below(5), ngram: 1 + below(4) };
      const { checked } = await both(sequence, prompt, options, speculate);
      expect(checked.accepted).toBeLessThanOrEqual(checked.drafted);
      drafted += checked.drafted;
      accepted += checked.accepted;
    }
    expect(accepted).toBeGreaterThan(500);
    expect(drafted).toBeGreaterThan(accepted);
  });

  it('saves a pass for each that is right', async () => {
    const engine = await readyEngine({ device, sequences: 2 });
    await using sequence = engine.open();
    const { checked } = await both(sequence, [1, 2, 3], { maxTokens: 101, sampling: repeating(5, 0) });
    expect(checked.accepted).toBeGreaterThan(40);
    expect(checked.passes).toBe(1 + 100 - checked.accepted);
  });

  it('replies as it would alone where others come and go, and drafts in between', async () => {
    const engine = await readyEngine({ device, context: 200, sequences: 4 });
    const alone = await readyEngine({ device, context: 200 });
    const below = wholeNumbers(7);
    const expected = async ({ prompt, options }: ReturnType<typeof anyAsked>) => {
      alone.reset(0);
      const { ids, finish } = await read(alone.generate(prompt, options));
      return { ids, finish };
    };
    const client = async (slot: Sequence, count: number) => {
      let drafted = 0;
      for (let i = 0; i < count; i++) {
        const asked = anyAsked(below);
        const speculate = (['off', 'auto', always] as const)[below(3)]!;
        await new Promise((resolve) => setTimeout(resolve, below(4)));
        slot.reset(0);
        const made = await read(slot.generate(asked.prompt, { ...asked.options, speculate }));
        replies.push({ asked, made });
        drafted += made.drafted;
      }
      return drafted;
    };
    const replies: { asked: ReturnType<typeof anyAsked>; made: Awaited<ReturnType<typeof read>> }[] = [];
    const slots = [engine.open(), engine.open(), engine.open()];
    // The last one has some to itself: whether others are alone in between, and draft, is chance.
    const drafted = await Promise.all(slots.map((slot, i) => client(slot, i < 2 ? 30 : 45)));
    await Promise.all(slots.map((slot) => slot.close()));
    for (const { asked, made } of replies)
      expect({ ids: made.ids, finish: made.finish }).toEqual(await expected(asked));
    expect(drafted.reduce((sum, count) => sum + count)).toBeGreaterThan(0);
  });

  it('is where it was told to be after a stop, and goes on from there', async () => {
    const engine = await readyEngine({ device, sequences: 2 });
    const options = { maxTokens: 80, sampling: repeating(5, 0) };
    await using sequence = engine.open();
    const whole = await reply(sequence, [1, 2, 3], options);
    for (let passes = 1; passes < 24; passes += 3) {
      sequence.reset(0);
      const signal = abortAfter(passes);
      // Once the stop is known, the pass that is under way may end.
      signal.addEventListener('abort', () => setTimeout(() => fake.allow(Number.POSITIVE_INFINITY), 5));
      const { ids, finish } = await read(
        sequence.generate([1, 2, 3], { ...options, speculate: always, signal }),
      );
      expect(finish).toBe('abort');
      expect(ids).toEqual(whole.said.ids.slice(0, ids.length));
      expect(sequence.position).toBeLessThanOrEqual(3 + ids.length);
      const known = [1, 2, 3, ...ids].slice(sequence.position);
      const rest = await read(
        sequence.generate(known, { ...options, maxTokens: 80 - ids.length, speculate: always }),
      );
      expect([...ids, ...rest.ids]).toEqual(whole.said.ids);
    }
  });
});

it('ends a launch of all passes where drafts are found', async () => {
  const engine = await readyEngine({ device: 4, sequences: 2 });
  await using sequence = engine.open();
  const options = { maxTokens: 101, sampling: repeating(40, 0) };
  const { said } = await reply(sequence, [1, 2, 3], { ...options, speculate: 'off' });
  sequence.reset(0);
  const before = fake.work().requests;
  // Enough for the prompt, a launch of 8 passes, and until text has repeated in one of all that are left.
  fake.allow(60);
  const made = read(sequence.generate([1, 2, 3], { ...options, speculate: always }));
  const requests = () => fake.work().requests - before;
  await until(
    () => requests() > 3,
    () => `a fourth request: ${requests()}`,
  ).finally(() => fake.allow(Number.POSITIVE_INFINITY));
  const { ids, accepted } = await made;
  expect(ids).toEqual(said.ids);
  expect(accepted).toBeGreaterThan(20);
});

it('in the memory of the host rows have sums of their own, so that drafts are refused', async () => {
  const engine = await readyEngine({ device: 0, sequences: 2 });
  await using sequence = engine.open();
  const asked = read(sequence.generate([1], { maxTokens: 3, speculate: always }));
  expect((await failureOf(asked)).message).toBe(
    'speculate: passes of several sequences check no drafts here; leave it out, or say off',
  );
});
