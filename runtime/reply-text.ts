// From the tokens of a reply to its text.

import { type Thinking, thoughts } from './chat/thinking.ts';
import type { Read, ToolCallPart, ToolReader } from './chat/tool-reader.ts';
import type { Logprob, TokenLogprobs } from './engine/options.ts';
import type { ChosenLogprob, Piece, TokenLogprob } from './reply.ts';
import type { CheckedOptions } from './sampling.ts';
import { stopFilter } from './tokenizer/stop-strings.ts';
import type { Tokenizer } from './tokenizer/tokenizer.ts';

/** The text of tokens as they come, up to a stop text. Calls of functions are no part of it.
 *  @param calls reads them, where the reply may call; not in its thinking */
export function replyText(
  tokenizer: Tokenizer | null,
  { stop, stopIds, topLogprobs }: CheckedOptions,
  calls: { readonly reader: ToolReader; readonly thinking: Thinking | null } | null = null,
) {
  const stream = tokenizer?.stream();
  const filter = stopFilter(stop);
  const isThought = thoughts(calls?.thinking ?? null);
  const tokens: number[] = [];
  const logprobs: ChosenLogprob[] = [];
  const withLogprobs = (some: readonly ChosenLogprob[]) => (topLogprobs === null ? {} : { logprobs: some });
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
    soFar: () => ({
      text,
      tokens,
      ...withLogprobs(logprobs),
      ...(calls && { toolCalls: calls.reader.calls }),
    }),
    /** Those behind a stop text are dropped. @param told the log probabilities of the batch, where they were asked for */
    take: (batch: readonly number[], told: readonly TokenLogprobs[]): Piece => {
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
      const named = told.slice(0, taken.length).map((one) => nameTokens(one, tokenizer));
      logprobs.push(...named);
      return {
        text: added,
        tokens: taken,
        ...withLogprobs(named),
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
      return rest === '' ? null : { text: rest, tokens: [], ...withLogprobs([]) };
    },
  };
}

/** With the texts of the tokens, none where there is no tokenizer. */
function nameTokens({ top, ...chosen }: TokenLogprobs, tokenizer: Tokenizer | null): ChosenLogprob {
  const named = ({ token, logprob }: Logprob): TokenLogprob => {
    const bytes = tokenizer?.bytes(token) ?? new Uint8Array();
    return { token, text: Buffer.from(bytes).toString(), bytes: [...bytes], logprob };
  };
  return { ...named(chosen), top: top.map(named) };
}
