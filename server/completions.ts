// POST /v1/completions.
import { z } from 'zod';
import { mostTopLogprobs } from '../runtime/engine/limits.ts';
import { listOf } from '../runtime/list-of.ts';
import type { ChosenLogprob } from '../runtime/reply.ts';
import type { Asked } from './answer.ts';
import { ApiError } from './api-error.ts';
import { type ChoiceForm, choicesForm, type OffsetOf, textOffsets } from './choices.ts';
import { paramOf, refuseUnsupported, replyOptions, replyShape, unsupportedShape } from './parameters.ts';

const ids = listOf(z.int().min(0));

export const completionShape = z.strictObject({
  ...unsupportedShape,
  ...replyShape,
  logprobs: z.int().min(0).max(mostTopLogprobs).optional(),
  prompt: z.union([z.string(), ids, listOf(z.string()), listOf(ids)], 'expected a text or tokens'),
});

/** What OpenAI's endpoint makes where the request does not say it. */
const defaultTokens = 16;

/** @throws ApiError 400 for what cannot be followed */
export function readCompletion(given: z.infer<typeof completionShape>): Asked {
  refuseUnsupported(given);
  const prompt = onePrompt(given.prompt);
  const { max_tokens = defaultTokens, logprobs } = given;
  const options = { ...replyOptions(given), maxTokens: max_tokens, topLogprobs: logprobs };
  return {
    stream: given.stream === true,
    form: choicesForm(completionForm, given.stream_options?.include_usage === true),
    paramOf: (option) => (option[0] === 'tokenIds' ? ['prompt', ...option.slice(1)] : paramOf(option)),
    start: (model, signal) =>
      typeof prompt === 'string'
        ? model.complete(prompt, { ...options, signal })
        : model.generate(prompt, { ...options, signal }),
  };
}

function onePrompt(prompt: z.infer<typeof completionShape>['prompt']): string | readonly number[] {
  if (typeof prompt === 'string') return prompt;
  const [first, ...others] = prompt;
  if (first === undefined) throw new ApiError(400, 'prompt: expected a text or tokens', { param: 'prompt' });
  if (typeof first === 'number') return prompt as number[];
  if (others.length > 0) {
    const message = 'several prompts are not supported here: send a request for each';
    throw new ApiError(400, message, { param: 'prompt', code: 'unsupported_parameter' });
  }
  return first;
}

const choice = (text: string, finish_reason: string | null, logprobs: object | null) => ({
  ...{ index: 0, text, logprobs, finish_reason },
});

const completionForm: ChoiceForm = {
  prefix: 'cmpl',
  objects: { whole: 'text_completion', chunk: 'text_completion' },
  whole: ({ text, reason, logprobs }) =>
    choice(text, reason, logprobs && wordLogprobs(logprobs, textOffsets())),
  opening: null,
  piece: ({ text, logprobs }, offsetOf) =>
    choice(text, null, logprobs ? wordLogprobs(logprobs, offsetOf) : null),
  closing: (reason) => choice('', reason, null),
};

function wordLogprobs(tokens: readonly ChosenLogprob[], offsetOf: OffsetOf) {
  return {
    tokens: tokens.map(({ text }) => text),
    token_logprobs: tokens.map(({ logprob }) => logprob),
    // The token that was chosen is always among them.
    top_logprobs: tokens.map(({ top, ...chosen }) =>
      Object.fromEntries([...top, chosen].map(({ text, logprob }) => [text, logprob])),
    ),
    text_offset: tokens.map(offsetOf),
  };
}
