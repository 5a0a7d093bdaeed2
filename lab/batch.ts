// Tokens a second of several sequences at once: all of them decode from the same position of their contexts on.
import type { Engine } from '../runtime/engine.ts';
import { promptOf } from './measure.ts';

/** Sequences whose contexts are filled; close them with the engine. */
export interface Sequences {
  /** Tokens a second, all together, of replies of so many tokens that begin at the same position each time. */
  rate(tokens: number): Promise<number>;
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
  const replies = async (tokens: number) => {
    await Promise.all(
      sequences.map(async (sequence) => {
        for await (const _ of sequence.generate({ maxTokens: tokens, signal: AbortSignal.any([signal]) }));
      }),
    );
    signal.throwIfAborted();
  };
  for (const [number, sequence] of sequences.entries()) {
    sequence.append(promptOf(position, engine.vocab).map((id) => (id + number) % engine.vocab));
  }
  await replies(1);
  return {
    rate: async (tokens) => {
      // The last token is fed again, so that a reply begins with a pass of all.
      for (const sequence of sequences) sequence.reset(position);
      const begin = performance.now();
      await replies(tokens);
      return (count * tokens) / ((performance.now() - begin) / 1000);
    },
    close: async () => {
      await Promise.all(sequences.map((sequence) => sequence.close()));
    },
  };
}
