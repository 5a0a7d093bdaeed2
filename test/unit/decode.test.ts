// Replies that are timed at a position: what goes before them.

import { expect, it, vi } from 'vitest';
import { decoderOf } from '../../lab/decode.ts';
import { fakeEngines } from '../support/fake-engines.ts';

const { fake, readyEngine } = await fakeEngines();

it('an engine is warmed up by replies for a while, however few tokens they have', async () => {
  const engine = await readyEngine();
  const decoder = decoderOf(engine, 3, new AbortController().signal);
  // A pass takes 5 ms, whoever looks at the clock meanwhile.
  const clock = vi.spyOn(performance, 'now').mockImplementation(() => 5 * fake.work().passes);
  await decoder.fillTo(9);
  clock.mockRestore();
  const passes = fake.work().passes;
  await decoder.reply();
  const one = fake.work().passes - passes;
  expect(one).toBe(4);
  expect(passes).toBeGreaterThan(2 * one);
});
