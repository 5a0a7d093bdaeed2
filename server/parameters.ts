// The parameters that requests for replies share: what is taken, what is refused by name, and what changes no reply.
import { z } from 'zod';
import { mostTopLogprobs } from '../runtime/engine/limits.ts';
import { biasSchema, type ReplyOptions } from '../runtime/sampling.ts';
import { ApiError } from './api-error.ts';
import { inBody } from './body.ts';
import type { OptionPath } from './option-error.ts';

const maxInt32 = 2 ** 31 - 1;
const mostStops = 16;

/** A stop text that is longer than a reply is likely to be only costs time. */
const stop = z.string().min(1).max(1000);
const any = z.unknown().optional();

export const replyShape = {
  model: z.string(),
  stream: z.boolean().optional(),
  stream_options: inBody(
    z.strictObject({ include_usage: z.boolean().optional(), include_obfuscation: z.boolean().optional() }),
  ).optional(),
  max_tokens: z.int().min(1).max(maxInt32).optional(),
  temperature: z.number().min(0).optional(),
  top_p: z.number().gt(0).max(1).optional(),
  top_k: z.int().min(-1).max(maxInt32).optional(),
  min_p: z.number().min(0).max(1).optional(),
  repetition_penalty: z.number().gt(0).optional(),
  presence_penalty: z.number().min(-2).max(2).optional(),
  frequency_penalty: z.number().min(-2).max(2).optional(),
  logit_bias: biasSchema.optional(),
  seed: z.int().min(0).optional(),
  stop: z.union([stop, z.array(stop).max(mostStops)], `expected a text, or up to ${mostStops}`).optional(),
  // Of these no reply depends.
  user: any,
  metadata: any,
  store: any,
  service_tier: any,
  safety_identifier: any,
  prompt_cache_key: any,
  prompt_cache_retention: any,
};

/** What chats and responses have beside it. */
export const chatReplyShape = {
  top_logprobs: z.int().min(0).max(mostTopLogprobs).optional(),
  chat_template_kwargs: inBody(z.strictObject({ enable_thinking: z.boolean().optional() })).optional(),
};

type Given = z.infer<z.ZodObject<typeof replyShape>>;

export function replyOptions(given: Given): ReplyOptions {
  if (given.stream_options !== undefined && given.stream !== true) {
    throw new ApiError(400, 'stream_options is for stream: true', { param: 'stream_options' });
  }
  return {
    maxTokens: given.max_tokens,
    temperature: given.temperature,
    topK: given.top_k === undefined ? undefined : Math.max(0, given.top_k),
    topP: given.top_p,
    minP: given.min_p,
    repetitionPenalty: given.repetition_penalty,
    presencePenalty: given.presence_penalty,
    frequencyPenalty: given.frequency_penalty,
    logitBias: given.logit_bias,
    seed: given.seed,
    stop: given.stop,
  };
}

/** The parameter of an option, as most are named. */
export const paramOf = ([option = '', ...place]: OptionPath): OptionPath => [
  String(option).replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
  ...place,
];

/** The value of a parameter that asks for nothing, beside null and being left out. */
export type Off = (value: unknown) => boolean;

const isOne =
  (...values: readonly unknown[]): Off =>
  (value) =>
    values.includes(value);
export const isEmpty: Off = (value) =>
  typeof value === 'object' && value !== null && Object.keys(value).length === 0;
const isText: Off = (value) => z.strictObject({ type: z.literal('text') }).safeParse(value).success;
const never: Off = () => false;

/** Parameters of OpenAI and vLLM that would change a reply, and cannot be followed. */
export const unsupported = {
  n: isOne(1),
  best_of: isOne(1),
  prompt_logprobs: never,
  response_format: isText,
  tools: isEmpty,
  tool_choice: isOne('none', 'auto'),
  parallel_tool_calls: isOne(true, false),
  functions: isEmpty,
  function_call: isOne('none', 'auto'),
  modalities: (value) => JSON.stringify(value) === '["text"]',
  audio: never,
  prediction: never,
  reasoning_effort: never,
  verbosity: isOne('medium'),
  web_search_options: never,
  echo: isOne(false),
  suffix: isOne(''),
  structured_outputs: never,
  guided_json: never,
  guided_regex: never,
  guided_grammar: never,
  guided_choice: never,
} satisfies Readonly<Record<string, Off>>;

/** What to do in the place of some of them. */
const instead: Readonly<Record<string, string>> = {
  n: 'send the request several times',
  best_of: 'send the request several times',
  response_format: "only { type: 'text' } is; chats have json_schema and json_object too",
  reasoning_effort: 'chat_template_kwargs: { enable_thinking: false } leaves the thinking part out',
};

/** As the shape of a body: any value may be there. */
export const shapeOf = <Name extends string>(
  names: Readonly<Record<Name, Off>>,
): Record<Name, z.ZodOptional<z.ZodUnknown>> =>
  Object.fromEntries(Object.keys(names).map((name) => [name, any])) as Record<Name, typeof any>;
export const unsupportedShape: Record<keyof typeof unsupported, z.ZodOptional<z.ZodUnknown>> = shapeOf(
  unsupported,
);

/** @param names of parameters, and what to do in the place of some; those of chats and completions by default
 *  @throws ApiError 400 for a parameter that would change the reply, were it followed */
export function refuseUnsupported(
  given: Readonly<Record<string, unknown>>,
  names: Readonly<Record<string, Off>> = unsupported,
  hints: Readonly<Record<string, string>> = instead,
): void {
  for (const [name, isOff] of Object.entries(names)) {
    const value = given[name];
    if (value === undefined || isOff(value)) continue;
    const hint = hints[name];
    const message = `${name} is not supported here${hint === undefined ? '' : `: ${hint}`}`;
    throw new ApiError(400, message, { param: name, code: 'unsupported_parameter' });
  }
}
