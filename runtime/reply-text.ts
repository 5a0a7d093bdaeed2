// From the tokens of a reply to its text.
import type { Logprob, TokenLogprobs } from './engine-options.ts';
import type { ChosenLogprob, Piece, TokenLogprob } from './reply.ts';
import type { CheckedOptions } from './sampling.ts';
import { stopFilter } from './stop-strings.ts';
import type { Tokenizer } from './tokenizer.ts';

/** The text of tokens as they come, up to a stop text. */
export function replyText(tokenizer: Tokenizer | null, { stop, stopIds, topLogprobs }: CheckedOptions) {
  const stream = tokenizer?.stream();
  const filter = stopFilter(stop);
  const tokens: number[] = [];
  const logprobs: ChosenLogprob[] = [];
  const withLogprobs = (some: readonly ChosenLogprob[]) => (topLogprobs === null ? {} : { logprobs: some });
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
    soFar: () => ({ text, tokens, ...withLogprobs(logprobs) }),
    /** Those behind a stop text are dropped. @param told the log probabilities of the batch, where they were asked for */
    take: (batch: readonly number[], told: readonly TokenLogprobs[]): Piece => {
      const before = tokens.length;
      let added = '';
      for (const id of batch) {
        tokens.push(id);
        if (!stopIds.includes(id)) added += add(stream?.push(id) ?? '');
        if (stopped) break;
      }
      const taken = tokens.slice(before);
      const named = told.slice(0, taken.length).map((one) => nameTokens(one, tokenizer));
      logprobs.push(...named);
      return { text: added, tokens: taken, ...withLogprobs(named) };
    },
    /** What was held back: the beginning of a character, or of a stop text. Null: nothing was. */
    end: (): Piece | null => {
      if (stopped || ended) return null;
      ended = true;
      const last = add(stream?.end() ?? '');
      const rest = stopped ? '' : filter.end();
      text += rest;
      return last + rest === '' ? null : { text: last + rest, tokens: [], ...withLogprobs([]) };
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
