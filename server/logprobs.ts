// Log probabilities of tokens, as chats and responses word them.
import type { ChosenLogprob, TokenLogprob } from '../runtime/reply.ts';

const word = ({ text, logprob, bytes }: TokenLogprob) => ({ token: text, logprob, bytes });

export const wordLogprob = ({ top, ...chosen }: ChosenLogprob): object => ({
  ...word(chosen),
  top_logprobs: top.map(word),
});
