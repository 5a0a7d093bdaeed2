// The thread in which grammars are compiled and their masks are made.
import { workerData } from 'node:worker_threads';
import { answerCalls } from '../thread.ts';
import { type GrammarMask, Grammars, type MaskedBy } from './grammars.ts';
import { type SharedTokens, textsOf } from './shared-tokens.ts';

const tokens = workerData as SharedTokens;
const grammars = new Grammars(textsOf(tokens), tokens.ends.length);
const masks = new Map<number, GrammarMask>();
/** What took longest of each: compiling its grammar, or a mask [ms]. */
const slowest = new Map<number, number>();

async function timed<T>(mask: number, make: () => T | Promise<T>): Promise<T> {
  const begun = performance.now();
  const made = await make();
  slowest.set(mask, Math.max(slowest.get(mask) ?? 0, performance.now() - begun));
  return made;
}

answerCalls({
  open: async (mask: number, grammar: MaskedBy, stopIds: readonly number[]) => {
    await grammars.ready();
    masks.set(mask, await timed(mask, () => grammars.mask(grammar, stopIds)));
  },
  next: (mask: number, token: number | null) => timed(mask, () => masks.get(mask)?.next(token) ?? 'end'),
  end: (mask: number) => {
    masks.get(mask)?.end();
    masks.delete(mask);
    const millis = slowest.get(mask);
    slowest.delete(mask);
    return millis;
  },
});
