// POST /v1/responses: one answer to a text or to items, of which nothing is stored.
import { z } from 'zod';
import type { ChatMessage } from '../runtime/chat/chat-template.ts';
import { listOf } from '../runtime/list-of.ts';
import type { Asked } from './answer.ts';
import { ApiError } from './api-error.ts';
import { inBody, mostMessages } from './body.ts';
import type { OptionPath } from './option-error.ts';
import {
  chatReplyShape,
  isEmpty,
  type Off,
  paramOf,
  refuseUnsupported,
  replyOptions,
  replyShape,
  shapeOf,
} from './parameters.ts';
import { jsonFormat, namedSchema, schemaOf, textFormat } from './reply-format.ts';
import { responsesForm } from './response-events.ts';
import { responseToolShape, toolOptions } from './tools.ts';

const any = z.unknown().optional();
const text = z.strictObject({
  type: z.enum(['input_text', 'output_text', 'text'], 'text is all that is supported'),
  text: z.string(),
  // Of a part as it was answered.
  annotations: any,
  logprobs: any,
  // What OpenAI's client read the text as.
  parsed: any,
});
const texts = z.union(
  [z.string(), listOf(inBody(text))],
  'expected a text, or parts of type input_text or output_text',
);
/** Of an item as it was answered. */
const answered = { id: any, status: any };

const message = z.strictObject({
  type: z.literal('message').optional(),
  role: z.enum(['system', 'developer', 'user', 'assistant'], 'expected system, developer, user or assistant'),
  content: texts,
  phase: any,
  ...answered,
});
const functionCall = z.strictObject({
  type: z.literal('function_call'),
  call_id: z.string(),
  name: z.string(),
  arguments: z.string(),
  // What OpenAI's client read them as.
  parsed_arguments: any,
  ...answered,
});
const functionOutput = z.strictObject({
  type: z.literal('function_call_output'),
  call_id: z.string(),
  output: texts,
  ...answered,
});
const item = z.discriminatedUnion(
  'type',
  [message, functionCall, functionOutput],
  'expected a message, a function_call or a function_call_output',
);

const asItems = (given: unknown): unknown =>
  typeof given === 'string' ? [{ role: 'user', content: given }] : given;

const formatShape = inBody(
  z.discriminatedUnion('type', [
    textFormat,
    jsonFormat,
    namedSchema.extend({ type: z.literal('json_schema') }),
  ]),
);

const isOff: Off = (value) => value === false;
const isNothing: Off = (value) =>
  typeof value === 'object' && value !== null && Object.values(value).every((part) => part === null);
const never: Off = () => false;

/** Parameters that would change the answer, and cannot be followed. */
const unsupported = {
  background: isOff,
  context_management: isEmpty,
  conversation: never,
  max_tool_calls: never,
  moderation: never,
  previous_response_id: never,
  prompt: never,
  reasoning: isNothing,
  truncation: (value) => value === 'disabled',
} satisfies Readonly<Record<string, Off>>;

/** What to do in the place of some of them. */
const instead: Readonly<Record<string, string>> = {
  conversation: 'nothing is stored; send its items as input',
  previous_response_id: 'nothing is stored; send the items before as input',
  reasoning: 'chat_template_kwargs: { enable_thinking: false } leaves the thinking part out',
};

const { max_tokens, stream_options: _, ...shared } = replyShape;
export const responseShape = z.strictObject({
  ...shapeOf(unsupported),
  ...shared,
  ...chatReplyShape,
  ...responseToolShape,
  input: z.preprocess(
    asItems,
    listOf(inBody(item), 'expected a text, or items')
      .min(1, 'expected one or more')
      .max(mostMessages, `expected at most ${mostMessages} items`),
  ),
  instructions: z.string().optional(),
  max_output_tokens: max_tokens,
  text: inBody(
    z.strictObject({ format: formatShape.optional(), verbosity: z.literal('medium').optional() }),
  ).optional(),
  include: listOf(z.literal('message.output_text.logprobs')).optional(),
  stream_options: inBody(z.strictObject({ include_obfuscation: any })).optional(),
  prompt_cache_options: any,
});
type Given = z.infer<typeof responseShape>;

/** @throws ApiError 400 for what cannot be followed */
export function readResponse(given: Given): Asked {
  refuseUnsupported(given, unsupported, instead);
  const { input, instructions, tools = [], tool_choice, parallel_tool_calls, top_logprobs } = given;
  const logprobs = (given.include ?? []).length > 0;
  if (top_logprobs !== undefined && !logprobs) {
    const message = "top_logprobs is for include: ['message.output_text.logprobs']";
    throw new ApiError(400, message, { param: 'top_logprobs' });
  }
  if (logprobs && tools.length > 0) {
    throw new ApiError(400, 'log probabilities beside tools are not supported here', { param: 'include' });
  }
  const options = {
    ...replyOptions({ ...given, stream_options: undefined }),
    maxTokens: given.max_output_tokens,
    ...{ logprobs, topLogprobs: top_logprobs, schema: schemaOf(given.text?.format) },
    ...toolOptions(tools, tool_choice, parallel_tool_calls),
    enableThinking: given.chat_template_kwargs?.enable_thinking,
  };
  const system = instructions === undefined ? [] : [{ role: 'system', content: instructions }];
  return {
    stream: given.stream === true,
    form: responsesForm(echoOf(given)),
    paramOf: responseParam,
    start: (model, signal) => model.chat([...system, ...messagesOf(input)], { ...options, signal }),
  };
}

function responseParam(option: OptionPath): OptionPath {
  const [name, ...place] = option;
  switch (name) {
    case 'prompt':
      return ['input'];
    case 'schema':
      return ['text', 'format', ...option];
    case 'messages':
      // Items become other messages.
      return ['input'];
    case 'tools':
      return [name, ...place.filter((part) => part !== 'function')];
    default:
      return paramOf(option);
  }
}

/** What an answer repeats of its request, with what was left out of it. */
const echoOf = (given: Given): object => ({
  instructions: given.instructions ?? null,
  max_output_tokens: given.max_output_tokens ?? null,
  metadata: given.metadata ?? {},
  parallel_tool_calls: given.parallel_tool_calls ?? true,
  previous_response_id: null,
  reasoning: { effort: null, summary: null },
  store: false,
  temperature: given.temperature ?? null,
  text: { format: given.text?.format ?? { type: 'text' } },
  tool_choice: given.tool_choice ?? 'auto',
  tools: given.tools ?? [],
  top_p: given.top_p ?? null,
  truncation: 'disabled',
});

const joined = (parts: z.infer<typeof texts>): string =>
  typeof parts === 'string' ? parts : parts.map((part) => part.text).join('');

/** Items as messages: calls of functions belong to the assistant's message before them. */
function messagesOf(items: readonly z.infer<typeof item>[]): ChatMessage[] {
  const messages: ChatMessage[] = [];
  let calls: object[] | null = null;
  for (const one of items) {
    if (one.type === 'function_call') {
      const { call_id: id, name, arguments: given } = one;
      const call = { id, type: 'function', function: { name, arguments: given } };
      if (calls === null) {
        const last = messages.at(-1);
        const isSaid = last?.role === 'assistant';
        calls = [];
        const holder = { role: 'assistant', content: isSaid ? last.content : '', tool_calls: calls };
        messages.splice(isSaid ? -1 : messages.length, 1, holder);
      }
      calls.push(call);
      continue;
    }
    calls = null;
    if (one.type === 'function_call_output') {
      messages.push({ role: 'tool', tool_call_id: one.call_id, content: joined(one.output) });
    } else {
      const role = one.role === 'developer' ? 'system' : one.role;
      messages.push({ role, content: joined(one.content) });
    }
  }
  return messages;
}
