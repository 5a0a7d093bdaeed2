// An answer with choices, of which there is one: those of chats and of completions.
import type { ReplyResult } from '../runtime/reply.ts';
import type { Answer, AnswerFacts, Form } from './answer.ts';
import { errorBody } from './api-error.ts';
import type { Said } from './service.ts';

export interface ChoiceForm {
  readonly prefix: string;
  /** `object` of a whole answer and of a chunk. */
  readonly objects: { readonly whole: string; readonly chunk: string };
  /** The choice of a whole answer. */
  whole(answer: Answer): object;
  /** The choice of the first chunk, where one comes before the text. */
  readonly opening: object | null;
  /** @param offset of the first of its tokens in the text of all */
  piece(said: Said, offset: number): object;
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
      let offset = 0;
      return {
        named: false,
        opening: form.opening === null ? [] : [chunk(form.opening)],
        piece: (said) => {
          const told = chunk(form.piece(said, offset));
          for (const { text } of said.logprobs ?? []) offset += text.length;
          return [told];
        },
        closing: ({ reason, usage }) => [
          chunk(form.closing(reason)),
          ...(includeUsage ? [{ ...head, choices: [], usage: usageOf(usage) }] : []),
        ],
        failed: errorBody,
      };
    },
  };
}

function usageOf({ prompt, cached, completion }: ReplyResult['usage']) {
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: cached },
  };
}
