// From the tokens of a reply to its text.
import type { Piece } from './reply.ts';
import type { CheckedOptions } from './sampling.ts';
import { stopFilter } from './stop-strings.ts';
import type { Tokenizer } from './tokenizer.ts';

/** The text of tokens as they come, up to a stop text. */
export function replyText(tokenizer: Tokenizer | null, { stop, stopIds }: CheckedOptions) {
  const stream = tokenizer?.stream();
  const filter = stopFilter(stop);
  const tokens: number[] = [];
  let text = '';
  let stopped = false;
  let ended = false;
  const add = (part: string): string => {
    const found = filter.push(part);
    stopped = found.stopped;
    text += found.emit;
    return found.emit;
  };
  return {
    stopped: () => stopped,
    soFar: () => ({ text, tokens }),
    /** Those behind a stop text are dropped. */
    take: (batch: readonly number[]): Piece => {
      const before = tokens.length;
      let added = '';
      for (const id of batch) {
        tokens.push(id);
        if (!stopIds.includes(id)) added += add(stream?.push(id) ?? '');
        if (stopped) break;
      }
      return { text: added, tokens: tokens.slice(before) };
    },
    /** What was held back: the beginning of a character, or of a stop text. */
    end: (): string => {
      if (stopped || ended) return '';
      ended = true;
      const last = add(stream?.end() ?? '');
      const rest = stopped ? '' : filter.end();
      text += rest;
      return last + rest;
    },
  };
}
