// From the tokens of a reply to its text.

import { type Thinking, thoughts } from './chat/thinking.ts';
import type { Read, ToolCallPart, ToolReader } from './chat/tool-reader.ts';
import type { KeptLogprobs } from './kept-logprobs.ts';
import type { Piece } from './reply.ts';
import type { CheckedOptions } from './sampling.ts';
import { stopFilter } from './tokenizer/stop-strings.ts';
import type { Tokenizer } from './tokenizer/tokenizer.ts';

/** The text of tokens as they come, up to a stop text. Calls of functions are no part of it.
 *  @param calls reads them, where the reply may call; not in its thinking
 *  @param told the log probabilities of the tokens, where they were asked for: of those of a batch before it is taken */
export function replyText(
  tokenizer: Tokenizer | null,
  { stop, stopIds }: CheckedOptions,
  calls: { readonly reader: ToolReader; readonly thinking: Thinking | null } | null,
  told: KeptLogprobs | null,
) {
  const stream = tokenizer?.stream();
  const filter = stopFilter(stop);
  const isThought = thoughts(calls?.thinking ?? null);
  const tokens: number[] = [];
  const logprobsOf = (begin: number, end: number) =>
    told === null ? {} : { logprobs: told.named(begin, end) };
  let text = '';
  let stopped = false;
  let ended = false;
  const filtered = (part: string): string => {
    const found = filter.push(part);
    stopped = found.stopped;
    return found.emit;
  };
  const add = (id: number, parts: ToolCallPart[]): string => {
    const part = stream?.push(id) ?? '';
    if (calls === null || isThought(id)) return filtered(part);
    return split(calls.reader.push(part), parts);
  };
  const split = (read: Read, parts: ToolCallPart[]): string => {
    const said = filtered(read.text);
    if (stopped || read.parts.length === 0) return said;
    parts.push(...read.parts);
    // Nothing is said behind a call: what may have become a stop text did not.
    return said + filter.end();
  };
  return {
    stopped: () => stopped,
    soFar: () => ({ text, tokens }),
    /** Those behind a stop text are dropped. */
    take: (batch: readonly number[]): Piece => {
      const before = tokens.length;
      const parts: ToolCallPart[] = [];
      let added = '';
      for (const id of batch) {
        tokens.push(id);
        if (!stopIds.includes(id)) added += add(id, parts);
        if (stopped) break;
      }
      text += added;
      const taken = tokens.slice(before);
      return {
        text: added,
        tokens: taken,
        ...logprobsOf(before, tokens.length),
        ...(parts.length > 0 && { toolCalls: parts }),
      };
    },
    /** What was held back: the beginning of a character, or of a stop text. Null: nothing was. */
    end: (): Piece | null => {
      if (stopped || ended) return null;
      ended = true;
      const unread = stream?.end() ?? '';
      const last = filtered(
        calls === null ? unread : calls.reader.push(unread).text + calls.reader.end().text,
      );
      const rest = last + (stopped ? '' : filter.end());
      text += rest;
      return rest === '' ? null : { text: rest, tokens: [], ...logprobsOf(0, 0) };
    },
  };
}
