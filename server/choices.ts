// An answer with choices, of which there is one: those of chats and of completions.
import type { ChosenLogprob, ReplyResult } from '../runtime/reply.ts';
import type { Answer, AnswerFacts, Form } from './answer.ts';
import { errorBody } from './api-error.ts';
import type { Said } from './service.ts';

/** Where a token begins in the text of all [UTF-16 units]. */
export type OffsetOf = (token: ChosenLogprob) => number;

export interface ChoiceForm {
  readonly prefix: string;
  /** `object` of a whole answer and of a chunk. */
  readonly objects: { readonly whole: string; readonly chunk: string };
  /** The choice of a whole answer. */
  whole(answer: Answer): object;
  /** The choice of the first chunk, where one comes before the text. */
  readonly opening: object | null;
  /** @param offsetOf where a token begins, to be asked for each of the reply's in turn */
  piece(said: Said, offsetOf: OffsetOf): object;
  closing(reason: Answer['reason']): object;
}

/** @param includeUsage whether a stream says it, in a chunk of its own */
export function choicesForm(form: ChoiceForm, includeUsage: boolean): Form {
  const base = ({ id, fingerprint, ...facts }: AnswerFacts, object: string) => ({
    ...{ id: `${form.prefix}-${id}`, object, ...facts, system_fingerprint: fingerprint },
  });
  return {
    whole: (facts, answer) => ({
      ...base(facts, form.objects.whole),
      ...{ choices: [form.whole(answer)], usage: usageOf(answer.usage) },
    }),
    stream: (facts) => {
      const head = base(facts, form.objects.chunk);
      const withUsage = includeUsage ? { usage: null } : {};
      const chunk = (choice: object) => ({ ...head, choices: [choice], ...withUsage });
      const offsetOf = textOffsets();
      return {
        named: false,
        opening: form.opening === null ? [] : [chunk(form.opening)],
        piece: (said) => [chunk(form.piece(said, offsetOf))],
        closing: ({ reason, usage }) => [
          chunk(form.closing(reason)),
          ...(includeUsage ? [{ ...head, choices: [], usage: usageOf(usage) }] : []),
        ],
        failed: errorBody,
      };
    },
  };
}

/** Of the tokens of a reply, one after another. Tokens that are parts of one character begin where it does: the text has nothing of it before its last. */
export function textOffsets(): OffsetOf {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  let at = 0;
  return ({ bytes }) => {
    // What was begun of a character, and does not go on here, is U+FFFD before it.
    if (!goesOn(bytes[0])) at += decoder.decode().length;
    const begin = at;
    at += decoder.decode(Uint8Array.from(bytes), { stream: true }).length;
    return begin;
  };
}

/** Whether a byte goes on with a character of UTF-8. */
const goesOn = (byte: number | undefined): boolean => byte === undefined || (byte & 0xc0) === 0x80;

function usageOf({ prompt, cached, completion }: ReplyResult['usage']) {
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: cached },
  };
}
