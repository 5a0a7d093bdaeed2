// A reply in the words of /v1/responses: items, and the events of a stream that makes them.
import { KeptLogprobs } from '../runtime/kept-logprobs.ts';
import type { ChosenLogprob } from '../runtime/reply.ts';
import type { Answer, AnswerFacts, Ending, Form, Telling, WrittenCall } from './answer.ts';
import type { ApiError } from './api-error.ts';
import { wordLogprob } from './logprobs.ts';
import type { Said } from './service.ts';

type Status = 'in_progress' | 'completed' | 'incomplete' | 'failed';

/** @param echo what an answer repeats of its request */
export function responsesForm(echo: object): Form {
  const response = (facts: AnswerFacts, status: Status, more: object) => ({
    ...{ id: `resp_${facts.id}`, object: 'response', created_at: facts.created, model: facts.model },
    ...{ status, error: null, incomplete_details: null, output: [], usage: null },
    ...echo,
    ...more,
  });
  const ended = (facts: AnswerFacts, { reason, usage }: Ending, output: readonly object[]) => {
    const isCut = reason === 'length';
    return response(facts, isCut ? 'incomplete' : 'completed', {
      output,
      ...(isCut && { incomplete_details: { reason: 'max_output_tokens' } }),
      usage: usageOf(usage),
    });
  };
  return {
    whole: (facts, answer) => ended(facts, answer, itemsOf(facts, answer)),
    stream: (facts) => tell(facts, (status, more) => response(facts, status, more), ended),
  };
}

/** The events of a stream, each with its number: an item is begun, grows, and is done before the next. */
function tell(
  facts: AnswerFacts,
  response: (status: Status, more: object) => object,
  ended: (facts: AnswerFacts, ending: Ending, output: readonly object[]) => object,
): Telling {
  let number = 0;
  const event = (type: string, more: object) => ({ type, sequence_number: number++, ...more });
  const output: object[] = [];
  let said = '';
  /** Of each token that is told of; there are fewer than there are places for them. */
  const bytes = new Map<number, Uint8Array>();
  const kept = new KeptLogprobs((token) => bytes.get(token)!);
  /** The item that grows; null: none. */
  let call: WrittenCall | null = null;
  let isSaying = false;
  const at = (item_id: string) => ({ item_id, output_index: output.length });
  const inText = { ...at(messageId(facts)), content_index: 0 };

  const beginText = (): object[] => {
    isSaying = true;
    const item = { ...messageItem(facts, 'in_progress', '', []), content: [] };
    return [
      event('response.output_item.added', { output_index: 0, item }),
      event('response.content_part.added', { ...inText, part: textPart('', []) }),
    ];
  };
  const beginCall = (id: string, name: string): object[] => {
    call = { id, name, arguments: '' };
    return [
      event('response.output_item.added', {
        ...{ output_index: output.length, item: callItem('in_progress', call) },
      }),
    ];
  };
  /** The item that grows is done. */
  const end = (status: Status): object[] => {
    const events: object[] = [];
    const finish = (item: object) => {
      events.push(event('response.output_item.done', { output_index: output.length, item }));
      output.push(item);
    };
    if (isSaying) {
      const told = kept.named(0, Number.POSITIVE_INFINITY);
      const done = { text: said, logprobs: told.map(wordLogprob) };
      events.push(event('response.output_text.done', { ...inText, ...done }));
      events.push(event('response.content_part.done', { ...inText, part: textPart(said, told) }));
      finish(messageItem(facts, status, said, told));
    }
    if (call !== null) {
      const { name, arguments: json } = call;
      const told = { ...at(itemId(call)), name, arguments: json };
      events.push(event('response.function_call_arguments.done', told));
      finish(callItem(status, call));
    }
    isSaying = false;
    call = null;
    return events;
  };
  const say = ({ text, logprobs = [] }: Said): object[] => {
    said += text;
    for (const one of logprobs.flatMap((chosen) => [chosen, ...chosen.top])) {
      if (!bytes.has(one.token)) bytes.set(one.token, Uint8Array.from(one.bytes));
    }
    kept.push(logprobs);
    const events = isSaying ? [] : beginText();
    const delta = { ...inText, delta: text, logprobs: logprobs.map(wordLogprob) };
    return [...events, event('response.output_text.delta', delta)];
  };

  return {
    named: true,
    opening: ['response.created', 'response.in_progress'].map((type) =>
      event(type, { response: response('in_progress', {}) }),
    ),
    piece: (piece) => {
      const events = piece.text !== '' || piece.logprobs ? say(piece) : [];
      for (const { id, name, arguments: part } of piece.toolCalls ?? []) {
        if (id !== undefined) events.push(...end('completed'), ...beginCall(id, name!));
        if (part === '' || call === null) continue;
        call = { ...call, arguments: (call as WrittenCall).arguments + part };
        events.push(event('response.function_call_arguments.delta', { ...at(itemId(call)), delta: part }));
      }
      return events;
    },
    closing: (ending) => {
      const nothing = !isSaying && call === null && output.length === 0;
      const begun = nothing ? beginText() : [];
      const isCut = ending.reason === 'length';
      const status = isCut ? 'incomplete' : 'completed';
      const events = [...begun, ...end(status)];
      return [...events, event(`response.${status}`, { response: ended(facts, ending, output) })];
    },
    failed: ({ code, message }: ApiError) =>
      event('response.failed', {
        response: response('failed', { output, error: { code: code ?? 'server_error', message } }),
      }),
  };
}

/** Where the reply was cut, its last item is not complete. */
function itemsOf(facts: AnswerFacts, { text, logprobs, calls, reason }: Answer): object[] {
  const last: Status = reason === 'length' ? 'incomplete' : 'completed';
  const hasText = text !== '' || calls.length === 0;
  const textStatus = calls.length === 0 ? last : 'completed';
  return [
    ...(hasText ? [messageItem(facts, textStatus, text, logprobs ?? [])] : []),
    ...calls.map((call, i) => callItem(i === calls.length - 1 ? last : 'completed', call)),
  ];
}

const messageId = ({ id }: AnswerFacts): string => `msg_${id}`;
const itemId = ({ id }: WrittenCall): string => `fc_${id.replace(/^call_/, '')}`;

const textPart = (text: string, logprobs: readonly ChosenLogprob[]) => ({
  ...{ type: 'output_text', text, annotations: [], logprobs: logprobs.map(wordLogprob) },
});

const messageItem = (
  facts: AnswerFacts,
  status: Status,
  text: string,
  logprobs: readonly ChosenLogprob[],
) => ({
  ...{ id: messageId(facts), type: 'message', status, role: 'assistant' },
  content: [textPart(text, logprobs)],
});

const callItem = (status: Status, call: WrittenCall) => ({
  ...{ id: itemId(call), type: 'function_call', status, call_id: call.id },
  ...{ name: call.name, arguments: call.arguments },
});

const usageOf = ({ prompt, cached, completion }: Answer['usage']) => ({
  input_tokens: prompt,
  input_tokens_details: { cached_tokens: cached },
  output_tokens: completion,
  output_tokens_details: { reasoning_tokens: 0 },
  total_tokens: prompt + completion,
});
