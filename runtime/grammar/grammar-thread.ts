// The thread in which grammars are compiled and their masks are made.
import { workerData } from 'node:worker_threads';
import type { Foreseen, MaskOrEnd } from '../engine/token-masks.ts';
import { answerCalls } from '../thread.ts';
import { type GrammarMask, Grammars, type MaskedBy, timed } from './grammars.ts';
import { type SharedTokens, textsOf } from './shared-tokens.ts';

const tokens = workerData as SharedTokens;
const grammars = new Grammars(textsOf(tokens), tokens.ends.length);
/** The masks of a reply, and what took longest of them: compiling their grammar, or what is asked of it at a time [ms]. */
interface Open {
  readonly mask: GrammarMask;
  slowest: number;
  foresee: Foresee | null;
}

const open = new Map<number, Open>();

type Foresee = NonNullable<ReturnType<NonNullable<GrammarMask['foresee']>>>;

/** What may come next, and whether there is more to be foreseen. */
export interface ThreadMask {
  readonly next: MaskOrEnd;
  readonly expects: boolean;
}

answerCalls({
  open: async (id: number, grammar: MaskedBy, stopIds: readonly number[]) => {
    await grammars.ready();
    const begun = performance.now();
    const made = await grammars.mask(grammar, stopIds);
    const mask = timed(made, (millis) => {
      one.slowest = Math.max(one.slowest, millis);
    });
    const one: Open = { mask, slowest: performance.now() - begun, foresee: null };
    open.set(id, one);
  },
  next: async (id: number, tokens: readonly number[]): Promise<ThreadMask> => {
    const one = open.get(id);
    if (one === undefined) return { next: 'end', expects: false };
    const next = await one.mask.next(tokens);
    one.foresee = one.mask.foresee?.() ?? null;
    return { next, expects: one.foresee !== null };
  },
  foresee: (id: number, most: number): Foreseen | Promise<Foreseen> =>
    open.get(id)?.foresee?.(most) ?? { tokens: [], masks: [] },
  end: (id: number) => {
    const one = open.get(id);
    open.delete(id);
    one?.mask.end();
    return one?.slowest;
  },
});
