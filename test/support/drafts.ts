// Replies with drafts beside those without, over a fake backend: what they say, and what they took.
import { expect } from 'vitest';
import type { Sampling } from '../../runtime/engine/bindings.ts';
import type { Engine } from '../../runtime/engine/engine.ts';
import type { GenerateOptions, Speculate } from '../../runtime/engine/options.ts';
import type { Sequence } from '../../runtime/engine/sequence.ts';
import { greedy } from './fake-engines.ts';
import type { Fake } from './host-fake.ts';
import { read } from './read-reply.ts';

/** Text that repeats after `period` tokens, but for a share of them. */
export const repeating = (period: number, others: number, seed = 0): Sampling => ({
  ...greedy,
  temperature: 1,
  top_k: period,
  min_p: others,
  seed,
});

export const always: Speculate = { tokens: 3, ngram: 3 };

type Speaker = Pick<Engine | Sequence, 'reset' | 'generate' | 'position'>;

export function draftingOn(fake: Fake) {
  /** A reply from an empty engine or sequence, what it took, and where it has come. */
  async function reply(speaker: Speaker, prompt: readonly number[], options: GenerateOptions) {
    speaker.reset(0);
    const before = fake.work().passes;
    const { ids, finish, drafted, accepted } = await read(speaker.generate(prompt, options));
    const passes = fake.work().passes - before;
    return { said: { ids, finish, position: speaker.position }, passes, drafted, accepted };
  }

  /** The same reply without drafts and with them. */
  async function both(
    speaker: Speaker,
    prompt: readonly number[],
    options: GenerateOptions,
    speculate: Speculate = always,
  ) {
    const plain = await reply(speaker, prompt, { ...options, speculate: 'off' });
    const checked = await reply(speaker, prompt, { ...options, speculate });
    expect(checked.said).toEqual(plain.said);
    expect(plain.drafted).toBe(0);
    return { plain, checked };
  }
  return { reply, both };
}
