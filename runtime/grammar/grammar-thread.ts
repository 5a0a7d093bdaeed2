// The thread in which grammars are compiled and their masks are made.
import { workerData } from 'node:worker_threads';
import { answerCalls } from '../thread.ts';
import { type GrammarMask, Grammars, type MaskedBy } from './grammars.ts';
import { type SharedTokens, textsOf } from './shared-tokens.ts';

const tokens = workerData as SharedTokens;
const grammars = new Grammars(textsOf(tokens), tokens.ends.length);
const masks = new Map<number, GrammarMask>();

answerCalls({
  open: async (mask: number, grammar: MaskedBy, stopIds: readonly number[]) => {
    masks.set(mask, await grammars.mask(grammar, stopIds));
  },
  next: (mask: number, token: number | null) => masks.get(mask)?.next(token) ?? 'end',
  end: (mask: number) => {
    masks.get(mask)?.end();
    masks.delete(mask);
  },
});
