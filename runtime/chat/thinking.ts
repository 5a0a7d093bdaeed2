// Where a reply thinks before it says something: from one token to another.
import type { GrammarMask } from '../grammar/grammars.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

/** Ends the thinking of a reply. */
export const thinkingEnd = '</think>';
const thinkingBegin = '<think>';

export interface Thinking {
  readonly begin: number | undefined;
  readonly end: number;
  /** The reply begins in the middle of it. */
  readonly opened: boolean;
}

/** How a model thinks; null: it has no tokens for it.
 *  @param asked whether it is to think; undefined: as it likes, unless the prompt opens its thinking */
export function thinkingOf(
  tokenizer: Pick<Tokenizer, 'idOf'>,
  prompt: readonly number[],
  asked: boolean | undefined,
): Thinking | null {
  const [begin, end] = [tokenizer.idOf(thinkingBegin), tokenizer.idOf(thinkingEnd)];
  if (end === undefined || asked === false) return null;
  // A template may open it, and end the line.
  const opened = asked === true || (begin !== undefined && prompt.slice(-2).includes(begin));
  return { begin, end, opened };
}

/** Tells of each token of a reply, as they come, whether it is of its thinking; its first and last one are. */
export function thoughts(thinking: Thinking | null): (token: number) => boolean {
  let state: 'first' | 'thinking' | 'said' = 'said';
  if (thinking !== null) state = thinking.opened ? 'thinking' : 'first';
  return (token) => {
    if (state === 'first') state = token === thinking?.begin ? 'thinking' : 'said';
    if (state === 'said') return false;
    if (token === thinking?.end) state = 'said';
    return true;
  };
}

/** A mask that begins behind the thinking: until then any token may come. */
export function behindThinking(mask: GrammarMask, thinking: Thinking | null): GrammarMask {
  if (thinking === null) return mask;
  const isThought = thoughts(thinking);
  let isBound = false;
  return {
    ...mask,
    next: (tokens) => {
      const [token] = tokens;
      if (token !== undefined && !isThought(token)) return mask.next(tokens);
      isBound = token === undefined ? !thinking.opened : token === thinking.end;
      return isBound ? mask.next([]) : null;
    },
    foresee: () => (isBound ? (mask.foresee?.() ?? null) : null),
  };
}
