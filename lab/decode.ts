// Timed replies of an engine at a position of the context, over and over, without computing what stands before it again.
import type { Engine } from '../runtime/engine/engine.ts';
import type { Speculate } from '../runtime/engine/options.ts';
import { promptOf, tokensHash } from './measure.ts';

/** A greedy reply read to its end: its tokens, and the times of prompt and tokens [ms]. @throws the reason of the signal */
export async function wholeReply(
  engine: Engine,
  ids: readonly number[],
  maxTokens: number,
  signal: AbortSignal,
  speculate: Speculate = 'off',
) {
  const made: number[] = [];
  const run = engine.generate(ids, { maxTokens, speculate, signal });
  for (;;) {
    const next = await run.next();
    signal.throwIfAborted();
    if (next.done) {
      const { timings, drafted, accepted } = next.value;
      return { made, ...timings, drafted, accepted };
    }
    made.push(...next.value);
  }
}

interface TimedReply {
  readonly tokensPerSecond: number;
  readonly tokensHash: string;
}

/** An engine whose context is filled up to a position: each reply begins there. */
export interface Decoder {
  /** Fills the context, and makes replies that are not timed, for a while. Positions only grow. */
  fillTo(position: number): Promise<void>;
  /** One greedy reply at that position. */
  reply(): Promise<TimedReply>;
}

/** Replies that are not timed take this at least [ms]: one of few tokens leaves threads, caches and JavaScript as cold as they were. */
const warmMillis = 50;

/** @param tokens timed ones of a reply: the first of it is not among them */
export function decoderOf(engine: Engine, tokens: number, signal: AbortSignal): Decoder {
  let filled = 0;
  let prompt: readonly number[] = [];
  const reply = async (): Promise<TimedReply> => {
    engine.reset(filled);
    const { made, decodeMs } = await wholeReply(engine, prompt.slice(filled), tokens + 1, signal);
    return { tokensPerSecond: tokens / (decodeMs / 1000), tokensHash: tokensHash(made) };
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
      const begun = performance.now();
      do await reply();
      while (performance.now() - begun < warmMillis);
    },
  };
}
