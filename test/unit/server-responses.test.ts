// /v1/responses, as OpenAI's own client has it, from a scripted engine that the masks hold.
import OpenAI from 'openai';
import type { ResponseStreamEvent } from 'openai/resources/responses/responses';
import { beforeEach, describe, expect, it } from 'vitest';
import { lost, post, served, until } from '../support/served.ts';
import { hermes } from '../support/tool-templates.ts';

// One for all: grammars take seconds of a processor to be compiled.
const { app, engine, lines, service } = served({ template: hermes, context: 2048 });
const client = new OpenAI({
  ...{ baseURL: 'http://localhost/v1', apiKey: 'none', maxRetries: 0 },
  fetch: async (url, init) => app.request(url as string, init as RequestInit),
});
const model = 'qwen3-tiny';
const text = 'A kernel is a nut.';
const clock = {
  ...{ type: 'function' as const, name: 'clock', description: 'The time.', strict: true },
  parameters: { type: 'object', properties: { zone: { enum: ['UTC', 'CET'] } }, required: ['zone'] },
};
const call = '<tool_call>\n{"name": "clock", "arguments": {"zone": "UTC"}}\n</tool_call>';
const tools = [clock];

beforeEach(() => engine.says(text));

const eventsOf = async (more: object = {}): Promise<ResponseStreamEvent[]> => {
  const events: ResponseStreamEvent[] = [];
  const stream = await client.responses.create({ model, input: 'Well?', stream: true, ...more });
  for await (const event of stream) events.push(event);
  return events;
};
/** What the client makes of a stream, without what differs from an answer to another request. */
const streamed = async (more: object) =>
  alike(await client.responses.stream({ model, input: 'Well?', ...more }).finalResponse());
const whole = async (more: object) =>
  alike((await client.responses.create({ model, input: 'Well?', ...more })) as OpenAI.Responses.Response);
const alike = ({
  output,
  output_text,
  status,
  incomplete_details,
  usage,
  ...more
}: OpenAI.Responses.Response) => ({
  ...{ output_text, status, incomplete_details, tools: more.tools, instructions: more.instructions },
  used: usage!.output_tokens,
  output: JSON.parse(
    JSON.stringify(output, (key, value) =>
      ['id', 'call_id', 'parsed', 'parsed_arguments'].includes(key) ? undefined : value,
    ),
  ),
});

describe('a response', () => {
  it('is one to a text, with instructions, its usage, and what was asked', async () => {
    const response = await client.responses.create({
      ...{ model, instructions: 'Be brief.', input: 'What is a kernel?', temperature: 0.5 },
      ...{ metadata: { a: 'b' }, max_output_tokens: 40, store: true, truncation: 'disabled' },
    });
    expect(response).toMatchObject({
      id: expect.stringMatching(/^resp_/),
      ...{ object: 'response', status: 'completed', error: null, output_text: text, model },
      ...{ instructions: 'Be brief.', temperature: 0.5, max_output_tokens: 40, metadata: { a: 'b' } },
      ...{ store: false, tool_choice: 'auto', tools: [], text: { format: { type: 'text' } } },
    });
    expect(response.output).toMatchObject([{ type: 'message', role: 'assistant', status: 'completed' }]);
    const { input_tokens, output_tokens, total_tokens } = response.usage!;
    expect(total_tokens).toBe(input_tokens + output_tokens);
    const { prompt, maxTokens, sampling } = engine.calls.at(-1)!;
    expect(prompt).toContain('system\nBe brief.\nuser\nWhat is a kernel?');
    expect([maxTokens, sampling.temperature]).toEqual([40, 0.5]);
  });

  it('may say null of what it leaves out, in all that it holds', async () => {
    const input = [{ type: null, role: 'user', content: [{ type: 'input_text', text: 'a', detail: null }] }];
    const more = { text: { format: null, verbosity: null }, chat_template_kwargs: { enable_thinking: null } };
    const answer = await post(app, '/v1/responses', { model, input, ...more });
    expect([answer.status, (await answer.json()) as object]).toMatchObject([
      200,
      { text: { format: { type: 'text' } } },
    ]);
  });

  it('is streamed in events that have names and numbers', async () => {
    const events = await eventsOf();
    const types = events.map(({ type }) => type);
    expect(types.filter((type, i) => type !== types[i - 1])).toEqual([
      'response.created',
      'response.in_progress',
      'response.output_item.added',
      'response.content_part.added',
      'response.output_text.delta',
      'response.output_text.done',
      'response.content_part.done',
      'response.output_item.done',
      'response.completed',
    ]);
    expect(events.map(({ sequence_number }) => sequence_number)).toEqual(events.map((_, i) => i));
    const raw = await (await post(app, '/v1/responses', { model, input: 'Well?', stream: true })).text();
    expect(raw).toMatch(/^event: response.created\ndata: {"type":"response.created"/);
    expect(raw).not.toContain('[DONE]');
  });

  it.each([
    ['a text', text, {}],
    ['one that is cut', text, { max_output_tokens: 3 }],
    ['nothing', '', {}],
    ['a call', call, { tools }],
    ['a text and two calls', `Let me see.\n${call}\n${call}`, { tools }],
    ['a call that is cut', `Let me see.\n${call}`, { tools, max_output_tokens: 30 }],
    ['log probabilities', text, { include: ['message.output_text.logprobs'], top_logprobs: 2 }],
  ])('of %s is the same whole and streamed', async (_, said, more) => {
    engine.says(said);
    const one = await whole(more);
    expect(await streamed(more)).toEqual(one);
    expect(one.output).not.toEqual([]);
    expect(one.status).toBe('max_output_tokens' in more ? 'incomplete' : 'completed');
  });

  it('has calls, and goes on from what they gave', async () => {
    engine.says(`Let me see.\n${call}`);
    const input: OpenAI.Responses.ResponseInput = [{ role: 'user', content: 'How late is it?' }];
    const first = await client.responses.parse({ model, input, tools });
    expect(first.output[0]).toHaveProperty(['content', 0, 'parsed']);
    expect(first.output).toMatchObject([
      { type: 'message', content: [{ type: 'output_text', text: 'Let me see.' }] },
      {
        type: 'function_call',
        name: 'clock',
        arguments: '{"zone": "UTC"}',
        status: 'completed',
        parsed_arguments: { zone: 'UTC' },
      },
    ]);
    const called = first.output[1] as OpenAI.Responses.ResponseFunctionToolCall;
    engine.says('Noon.');
    const output = { type: 'function_call_output' as const, call_id: called.call_id, output: '12:00' };
    const items = first.output as OpenAI.Responses.ResponseInputItem[];
    const next = await client.responses.create({ model, input: [...input, ...items, output], tools });
    expect(next.output_text).toBe('Noon.');
    const { input_tokens_details, input_tokens } = next.usage!;
    expect(input_tokens_details.cached_tokens).toBeGreaterThan(first.usage!.total_tokens - 5);
    expect(input_tokens).toBeGreaterThan(first.usage!.total_tokens);
    expect(engine.calls.at(-1)!.prompt).toContain('tool\n12:00');
  });

  it('is of a schema, and of a function that is named', async () => {
    engine.says('{"a": 1}');
    const schema = { type: 'object', properties: { a: { type: 'integer' } }, required: ['a'] };
    const format = { type: 'json_schema' as const, name: 'x', schema };
    expect((await client.responses.create({ model, input: 'Well?', text: { format } })).output_text).toBe(
      '{"a": 1}',
    );
    engine.says(call);
    const tool_choice = { type: 'function' as const, name: 'clock' };
    const { output } = await client.responses.create({ model, input: 'Well?', tools, tool_choice });
    const allowed = {
      type: 'allowed_tools' as const,
      mode: 'required' as const,
      tools: [{ ...tool_choice }],
    };
    const noted = { ...tool_choice, x: null };
    await client.responses.create({ model, input: 'Well?', tools, tool_choice: noted });
    const among = await client.responses.create({ model, input: 'Well?', tools, tool_choice: allowed });
    expect(among.tool_choice).toEqual(allowed);
    expect(among.output).toMatchObject([{ type: 'function_call', name: 'clock' }]);
    expect(output).toMatchObject([{ type: 'function_call' }]);
  });

  it('that fails in the middle says so in its last event; one whose client leaves frees its place', async () => {
    engine.allow(3);
    const events: ResponseStreamEvent[] = [];
    const stream = await client.responses.create({ model, input: 'Well?', stream: true });
    for await (const event of stream) {
      events.push(event);
      if (event.type !== 'response.output_text.delta') continue;
      engine.failure = lost();
      engine.allow(Number.POSITIVE_INFINITY);
    }
    engine.failure = undefined;
    expect(events.at(-1)).toMatchObject({
      type: 'response.failed',
      response: { status: 'failed', error: { code: 'model_failed', message: lost().message } },
    });
    engine.allow(3);
    for await (const event of await client.responses.create({ model, input: 'Well?', stream: true })) {
      if (event.type === 'response.output_text.delta') break;
    }
    await until(() => service.queue.running === 0);
    await until(() => lines.at(-1)!['code'] === 'client_left');
    engine.allow(Number.POSITIVE_INFINITY);
  });

  it.each<[object, string]>([
    [{ input: undefined }, 'input'],
    [{ input: [] }, 'input'],
    [{ input: [{ type: 'reasoning', summary: [] }] }, 'input[0].type'],
    [{ input: [{ role: 'user', content: [{ type: 'input_image' }] }] }, 'input[0].content'],
    [{ input: [{ type: 'function_call', call_id: 'c', name: 'f' }] }, 'input[0].arguments'],
    [{ previous_response_id: 'resp_1' }, 'previous_response_id'],
    [{ conversation: 'conv_1' }, 'conversation'],
    [{ background: true }, 'background'],
    [{ reasoning: { effort: 'low' } }, 'reasoning'],
    [{ tools: [{ type: 'web_search' }] }, 'tools[0].type'],
    [{ tool_choice: 'required' }, 'tool_choice'],
    [{ top_logprobs: 1 }, 'top_logprobs'],
    [{ include: ['message.output_text.logprobs'], tools }, 'include'],
    [{ max_output_tokens: 0 }, 'max_output_tokens'],
    [{ temprature: 1 }, 'temprature'],
    [{ max_tokens: 5 }, 'max_tokens'],
    [{ input: [{ type: 'function_call', call_id: 'c', name: 'f', arguments: 'no JSON' }] }, 'input'],
    [{ stop: '<|im_end|> x' }, 'stop'],
  ])('to %j is refused, for its %s', async (more, param) => {
    const before = engine.calls.length;
    const answer = await post(app, '/v1/responses', { model, input: 'Well?', ...more });
    expect(answer.status).toBe(400);
    expect(((await answer.json()) as { error: object }).error).toMatchObject({ param });
    expect(engine.calls).toHaveLength(before);
  });

  it('is not stored', async () => {
    await expect(client.responses.retrieve('resp_1')).rejects.toThrow('nothing is stored');
  });
});
