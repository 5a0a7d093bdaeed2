// Which tokens of a reply may be chosen: asked for before each, and handed to the library, which waits for it.

/** A bit for each token: that of id is bit id % 32 of word id / 32. Null: any token. `end`: none, since the reply is complete. */
export type MaskOrEnd = Int32Array | null | 'end';

export const isAllowed = (words: Int32Array, id: number): boolean =>
  ((words[id >> 5]! >> (id & 31)) & 1) === 1;

export function allow(words: Int32Array, id: number): void {
  words[id >> 5]! |= 1 << (id & 31);
}

export function forbid(words: Int32Array, id: number): void {
  words[id >> 5]! &= ~(1 << (id & 31));
}

export interface TokenMask {
  /** Of the token that comes next. @param token that was chosen since this was last asked; null before the first */
  next(token: number | null): MaskOrEnd | Promise<MaskOrEnd>;
}

/** Hands the masks of a reply to the library as its tokens come. */
export interface MaskFeed {
  /** Asks for the mask of the token behind this one. */
  push(token: number | null): void;
  /** Whether the reply is complete, once it has ended. @param stopped it was asked to end, so that no mask is waited for
   *  @throws what `next` failed with */
  completed(stopped: boolean): Promise<boolean>;
}

/** @param give hands over a mask @param stop ends the reply */
export function feedMasks(
  mask: TokenMask,
  give: (words: Int32Array | null) => void,
  stop: () => void,
): MaskFeed {
  let complete = false;
  let failure: { readonly error: unknown } | undefined;
  let asked: Promise<void> = Promise.resolve();
  const ask = async (token: number | null) => {
    try {
      const next = await mask.next(token);
      complete = next === 'end';
      if (next === 'end') stop();
      else give(next);
    } catch (error) {
      failure ??= { error };
      stop();
    }
  };
  return {
    push: (token) => {
      asked = ask(token);
    },
    completed: async (stopped) => {
      if (!stopped) await asked;
      if (failure) throw failure.error;
      return complete;
    },
  };
}
