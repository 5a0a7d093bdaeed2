// A mask that goes on elsewhere once it takes too long here: where a text can be read in many ways, each token of it takes longer than the one before.
import { type GrammarMask, timed } from './grammars.ts';

/** @param isSlow of what a call has taken [ms]: from the one behind it on the mask is made elsewhere
 *  @param elsewhere the same mask at its beginning; null: nobody needs it any more */
export function leaving(
  here: GrammarMask,
  isSlow: (millis: number) => boolean,
  elsewhere: () => Promise<GrammarMask | null>,
): GrammarMask {
  const said: number[] = [];
  let [leaves, hasEnded] = [false, false];
  let mask = timed(here, (millis) => {
    leaves ||= isSlow(millis);
  });
  return {
    next: async (tokens) => {
      said.push(...tokens);
      if (!leaves) return mask.next(tokens);
      leaves = false;
      const other = await elsewhere();
      if (hasEnded || other === null) {
        other?.end();
        return 'abort';
      }
      mask.end();
      mask = other;
      return mask.next(said);
    },
    foresee: () => mask.foresee?.() ?? null,
    end: () => {
      hasEnded = true;
      mask.end();
    },
  };
}
