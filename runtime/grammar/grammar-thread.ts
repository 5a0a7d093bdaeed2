// The thread in which grammars are compiled and their masks are made.
import { workerData } from 'node:worker_threads';
import { answerCalls } from '../thread.ts';
import { type GrammarMask, Grammars, type MaskedBy } from './grammars.ts';
import { type SharedTokens, textsOf } from './shared-tokens.ts';

const tokens = workerData as SharedTokens;
const grammars = new Grammars(textsOf(tokens), tokens.ends.length);
/** The masks of a reply, and what took longest of them: compiling their grammar, or one [ms]. */
const open = new Map<number, { readonly mask: GrammarMask; slowest: number }>();

answerCalls({
  open: async (id: number, grammar: MaskedBy, stopIds: readonly number[]) => {
    await grammars.ready();
    const begun = performance.now();
    const made = await grammars.mask(grammar, stopIds);
    open.set(id, { mask: made, slowest: performance.now() - begun });
  },
  next: async (id: number, token: number | null) => {
    const one = open.get(id);
    if (one === undefined) return 'end';
    const begun = performance.now();
    const made = await one.mask.next(token);
    one.slowest = Math.max(one.slowest, performance.now() - begun);
    return made;
  },
  end: (id: number) => {
    const one = open.get(id);
    open.delete(id);
    one?.mask.end();
    return one?.slowest;
  },
});
