// Which tokens of a reply may be chosen: asked for before each, or ahead for tokens that are expected, and handed to the library, which waits for it.
import { untilAborted } from '../until-aborted.ts';

/** A bit for each token: that of id is bit id % 32 of word id / 32. Null: any token. `end`: none, since the reply is complete; `abort`: none, since nobody
 *  needs it any more. */
export type MaskOrEnd = Int32Array | null | 'end' | 'abort';

export const isAllowed = (words: Int32Array, id: number): boolean =>
  ((words[id >> 5]! >> (id & 31)) & 1) === 1;

export function allow(words: Int32Array, id: number): void {
  words[id >> 5]! |= 1 << (id & 31);
}

export function forbid(words: Int32Array, id: number): void {
  words[id >> 5]! &= ~(1 << (id & 31));
}

/** Tokens that are expected to come next, and which may be chosen behind each of them. */
export interface Foreseen {
  readonly tokens: readonly number[];
  readonly masks: readonly Int32Array[];
}

export interface TokenMask {
  /** Of the token that comes next. @param tokens that were chosen since this was last asked: none before the first, more than one where they were foreseen */
  next(tokens: readonly number[]): MaskOrEnd | Promise<MaskOrEnd>;
  /** Asked behind `next`: what tells the tokens that are expected from there on, at most so many; null: none are. Masks are the same without it. */
  foresee?(): ((most: number) => Foreseen | Promise<Foreseen>) | null;
}

/** Hands the masks of a reply to the library as its tokens come. */
export interface MaskFeed {
  /** Asks for the mask of the token behind this one. */
  push(token: number | null): void;
  /** The reply has ended: nothing is handed over any more, since the next one may have begun. */
  end(): void;
  /** Whether the reply is complete, once it has ended, by the mask behind its last token.
   *  @param stopped it was asked to end, so that no mask is waited for; so is none once the signal is aborted
   *  @throws what `next` failed with, where the reply was stopped for it */
  completed(stopped: boolean, signal: AbortSignal | undefined): Promise<boolean>;
}

/** Where masks go. */
export interface MaskTaker {
  /** @param expects `expect` is called next */
  give(words: Int32Array | null, expects: boolean): void;
  expect(foreseen: Foreseen): void;
  /** Ends the reply. */
  stop(): void;
}

/** Tokens that are foreseen at a time: the masks behind them are made while the pass runs that chooses the first. */
const mostForeseen = 8;

/** @param looksAhead whether the library is told what is expected */
export function feedMasks(mask: TokenMask, looksAhead: boolean, { give, expect, stop }: MaskTaker): MaskFeed {
  let [ended, complete] = [false, false];
  let failure: { readonly error: unknown } | undefined;
  let asked: Promise<void> | undefined;
  /** Those whose masks the library has. */
  let expected: readonly number[] = [];
  /** Those that were expected, and came. */
  let passed: number[] = [];
  const ask = async (token: number | null) => {
    const [first, ...others] = expected;
    const tokens = token === null ? [] : [...passed, token];
    const isExpected = token !== null && token === first;
    [expected, passed] = isExpected ? [others, tokens] : [[], []];
    if (isExpected) return;
    try {
      const made = mask.next(tokens);
      const next = made instanceof Promise ? await made : made;
      complete = next === 'end';
      if (ended) return;
      if (next === 'end' || next === 'abort') {
        stop();
        return;
      }
      const foresee = looksAhead ? (mask.foresee?.() ?? null) : null;
      give(next, foresee !== null);
      if (foresee === null) return;
      const foreseen = await foresee(mostForeseen);
      if (ended) return;
      expect(foreseen);
      expected = foreseen.tokens;
    } catch (error) {
      failure ??= { error };
      if (!ended) stop();
    }
  };
  return {
    push: (token) => {
      // The library may choose what is expected before this has told what is.
      asked = asked === undefined ? ask(token) : asked.then(() => ask(token));
    },
    end: () => {
      ended = true;
    },
    completed: async (stopped, signal) => {
      ended = true;
      if (!stopped && asked) await (signal ? untilAborted(asked, signal) : asked);
      // Behind the last token a mask would only have said whether the text is complete.
      if (stopped && failure) throw failure.error;
      return complete;
    },
  };
}
