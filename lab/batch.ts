// Tokens a second of several sequences at once: all of them decode from the same position of their contexts on.
import type { Engine } from '../runtime/engine/engine.ts';
import { promptOf } from './measure.ts';

/** Sequences whose contexts are filled; close them with the engine. */
export interface Sequences {
  /** Tokens a second, all together, of replies of so many tokens that begin at the same position each time. */
  rate(tokens: number): Promise<number>;
  /** Those replies, of so many tokens at most, once each is read. */
  replies(maxTokens: number): AsyncGenerator<readonly number[], unknown>[];
  close(): Promise<void>;
}

/** Opens sequences and fills each with a prompt of its own, `position` tokens long. @throws the reason of the signal */
export async function fillSequences(
  engine: Engine,
  count: number,
  position: number,
  signal: AbortSignal,
): Promise<Sequences> {
  const sequences = Array.from({ length: count }, () => engine.open());
  for (const [number, sequence] of sequences.entries()) {
    const prompt = promptOf(position, engine.vocab).map((id) => (id + number) % engine.vocab);
    await sequence.append(prompt, { signal });
  }
  const replies = (maxTokens: number) =>
    sequences.map((sequence, id) => {
      sequence.reset(position);
      const own = AbortSignal.any([signal]); // one that so many may listen to
      return sequence.generate([id], { maxTokens, signal: own });
    });
  const read = async (reply: AsyncIterable<readonly number[]>) => {
    for await (const _ of reply);
  };
  return {
    replies,
    rate: async (tokens) => {
      const begin = performance.now();
      await Promise.all(replies(tokens).map(read));
      signal.throwIfAborted();
      return (count * tokens) / ((performance.now() - begin) / 1000);
    },
    close: async () => {
      await Promise.all(sequences.map((sequence) => sequence.close()));
    },
  };
}
