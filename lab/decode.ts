// Timed replies of an engine at a position of the context, over and over, without computing what stands before it again.
import type { Engine } from '../runtime/engine.ts';
import { promptOf, tokensHash } from './measure.ts';

interface TimedReply {
  readonly tokensPerSecond: number;
  readonly tokensHash: string;
}

/** An engine whose context is filled up to a position: each reply begins there. */
export interface Decoder {
  /** Fills the context, and makes a reply that is not timed. Positions only grow. */
  fillTo(position: number): Promise<void>;
  /** One greedy reply at that position. */
  reply(): Promise<TimedReply>;
}

/** @param tokens timed ones of a reply: the first of it is not among them */
export function decoderOf(engine: Engine, tokens: number, signal: AbortSignal): Decoder {
  let filled = 0;
  let prompt: readonly number[] = [];
  const reply = async (): Promise<TimedReply> => {
    engine.reset(filled);
    const run = engine.generate(prompt.slice(filled), { maxTokens: tokens + 1, signal });
    const made: number[] = [];
    for (;;) {
      const next = await run.next();
      signal.throwIfAborted();
      if (next.done) {
        const seconds = next.value.timings.decodeMs / 1000;
        return { tokensPerSecond: tokens / seconds, tokensHash: tokensHash(made) };
      }
      made.push(...next.value);
    }
  };
  return {
    reply,
    fillTo: async (position) => {
      prompt = promptOf(position, engine.vocab);
      engine.reset(filled);
      const fresh = prompt.slice(filled, position - 1);
      // No logits are asked for: the tokens are only fed.
      if (fresh.length > 0) await engine.scoreRows(fresh, fresh.length, () => {}, { signal });
      filled = position - 1;
      await reply();
    },
  };
}
