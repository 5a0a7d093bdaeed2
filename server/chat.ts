// POST /v1/chat/completions.
import { z } from 'zod';
import type { ChatMessage } from '../runtime/chat/chat-template.ts';
import type { ToolCallPart } from '../runtime/chat/tool-reader.ts';
import { listOf } from '../runtime/list-of.ts';
import type { ChosenLogprob } from '../runtime/reply.ts';
import type { Asked } from './answer.ts';
import { ApiError } from './api-error.ts';
import { inBody, mostMessages } from './body.ts';
import { type ChoiceForm, choicesForm } from './choices.ts';
import { wordLogprob } from './logprobs.ts';
import type { OptionPath } from './option-error.ts';
import {
  chatReplyShape,
  isEmpty,
  type Off,
  paramOf,
  refuseUnsupported,
  replyOptions,
  replyShape,
  unsupportedShape,
} from './parameters.ts';
import { jsonFormat, namedSchema, schemaOf, textFormat } from './reply-format.ts';
import { chatToolShape, toolOptions } from './tools.ts';

const part = inBody(
  z.strictObject({ type: z.literal('text', 'text is all that is supported'), text: z.string() }),
);
const any = z.unknown().optional();
const toolCall = z.strictObject({
  id: z.string(),
  type: z.literal('function'),
  // A client that accumulated them from a stream has it here, too.
  index: any,
  // What OpenAI's client read the arguments as, which it leaves in.
  function: inBody(z.strictObject({ name: z.string(), arguments: z.string(), parsed_arguments: any })),
});
const message = z.strictObject({
  role: z.enum(
    ['system', 'developer', 'user', 'assistant', 'tool'],
    'expected system, developer, user, assistant or tool',
  ),
  content: z.union([z.string(), listOf(part)], 'expected a text, or parts of type text').nullish(),
  name: z.string().nullish(),
  reasoning_content: z.string().nullish(),
  tool_calls: listOf(inBody(toolCall)).nullish(),
  tool_call_id: z.string().nullish(),
  // Of an assistant's message as it was answered, empty.
  refusal: any,
  annotations: any,
  audio: any,
  function_call: any,
  // What OpenAI's client read the content as.
  parsed: any,
});

const responseFormat = inBody(
  z.discriminatedUnion('type', [
    textFormat,
    jsonFormat,
    z.strictObject({ type: z.literal('json_schema'), json_schema: inBody(namedSchema) }),
  ]),
);

export const chatShape = z.strictObject({
  ...unsupportedShape,
  ...replyShape,
  ...chatReplyShape,
  ...chatToolShape,
  response_format: responseFormat.optional(),
  messages: listOf(inBody(message)).min(1, 'expected one or more').max(mostMessages),
  max_completion_tokens: replyShape.max_tokens,
  logprobs: z.boolean().optional(),
});

/** @throws ApiError 400 for what cannot be followed */
export function readChat(given: z.infer<typeof chatShape>): Asked {
  const { response_format, tools = [], tool_choice, parallel_tool_calls, ...others } = given;
  refuseUnsupported(others);
  const { max_tokens, max_completion_tokens, chat_template_kwargs } = given;
  if (
    max_tokens !== undefined &&
    max_completion_tokens !== undefined &&
    max_tokens !== max_completion_tokens
  ) {
    throw new ApiError(400, 'max_tokens and max_completion_tokens are two names of one limit, and differ', {
      param: 'max_tokens',
    });
  }
  const { logprobs = false, top_logprobs } = given;
  if (top_logprobs !== undefined && !logprobs) {
    throw new ApiError(400, 'top_logprobs is for logprobs: true', { param: 'top_logprobs' });
  }
  const options = {
    ...replyOptions(given),
    schema: schemaOf(
      response_format?.type === 'json_schema'
        ? { ...response_format.json_schema, type: 'json_schema' }
        : response_format,
    ),
    ...toolOptions(
      tools.map((tool) => tool.function),
      tool_choice,
      parallel_tool_calls,
    ),
    logprobs,
    topLogprobs: top_logprobs,
    maxTokens: max_completion_tokens ?? max_tokens,
    enableThinking: chat_template_kwargs?.enable_thinking,
  };
  const messages = given.messages.map(readMessage);
  return {
    stream: given.stream === true,
    form: choicesForm(chatForm, given.stream_options?.include_usage === true),
    paramOf: chatParam,
    start: (model, signal) => model.chat(messages, { ...options, signal }),
  };
}

function chatParam(option: OptionPath): OptionPath {
  switch (option[0]) {
    case 'prompt':
      return ['messages'];
    case 'schema':
      return ['response_format', 'json_schema', ...option];
    default:
      return paramOf(option);
  }
}

const isNothing: Off = (value) => value === undefined || value === null || isEmpty(value);

function readMessage(given: z.infer<typeof message>, index: number): ChatMessage {
  const at = `messages[${index}]`;
  for (const key of ['refusal', 'annotations', 'audio', 'function_call'] as const) {
    if (isNothing(given[key])) continue;
    throw new ApiError(400, `${at}.${key} is not supported here`, {
      ...{ param: `${at}.${key}`, code: 'unsupported_parameter' },
    });
  }
  const { role, content, name, reasoning_content, tool_calls, tool_call_id } = given;
  for (const [key, whose] of [
    ['tool_calls', 'assistant'],
    ['tool_call_id', 'tool'],
  ] as const) {
    if (role === whose || isNothing(given[key])) continue;
    throw new ApiError(400, `${at}.${key} is for messages of ${whose}`, { param: `${at}.${key}` });
  }
  if (role === 'tool' && typeof tool_call_id !== 'string') {
    throw new ApiError(400, `${at}.tool_call_id is missing`, { param: `${at}.tool_call_id` });
  }
  if ((content === undefined || content === null) && role !== 'assistant') {
    throw new ApiError(400, `${at}.content is missing`, { param: `${at}.content` });
  }
  return {
    // Models before OpenAI's o1 know the developer as the system.
    role: role === 'developer' ? 'system' : role,
    content: content ?? '',
    ...(typeof name === 'string' && { name }),
    ...(typeof reasoning_content === 'string' && { reasoning_content }),
    ...(tool_calls && tool_calls.length > 0 && { tool_calls }),
    ...(typeof tool_call_id === 'string' && { tool_call_id }),
  };
}

const chatForm: ChoiceForm = {
  prefix: 'chatcmpl',
  objects: { whole: 'chat.completion', chunk: 'chat.completion.chunk' },
  whole: ({ text, calls, logprobs, reason }) => ({
    index: 0,
    message: {
      role: 'assistant',
      content: text === '' && calls.length > 0 ? null : text,
      refusal: null,
      ...(calls.length > 0 && { tool_calls: calls.map(({ id, ...called }) => wordCall(id, called)) }),
    },
    ...{ logprobs: logprobs && wordLogprobs(logprobs), finish_reason: reason },
  }),
  opening: { index: 0, delta: { role: 'assistant', content: '' }, logprobs: null, finish_reason: null },
  piece: ({ text, logprobs, toolCalls }) => ({
    index: 0,
    delta: {
      ...((text !== '' || toolCalls === undefined) && { content: text }),
      ...(toolCalls && { tool_calls: toolCalls.map(wordPart) }),
    },
    ...{ logprobs: logprobs ? wordLogprobs(logprobs) : null, finish_reason: null },
  }),
  closing: (finish_reason) => ({ index: 0, delta: {}, logprobs: null, finish_reason }),
};

const wordCall = (id: string, called: object) => ({ id, type: 'function', function: called });

/** The first part of a call says which it is. */
const wordPart = ({ index, id, name, arguments: part }: ToolCallPart) =>
  id === undefined
    ? { index, function: { arguments: part } }
    : { index, ...wordCall(id, { name, arguments: part }) };

const wordLogprobs = (tokens: readonly ChosenLogprob[]) => ({
  content: tokens.map(wordLogprob),
  refusal: null,
});
