// Calls of functions over the API, as OpenAI's own client has them, from a scripted engine that the masks hold.
import OpenAI from 'openai';
import { beforeEach, describe, expect, it } from 'vitest';
import { served, until } from '../support/served.ts';
import { hermes, withoutTools } from '../support/tool-templates.ts';

// One for all: grammars take seconds of a processor to be compiled.
const { app, engine, lines, service } = served({ template: hermes, context: 2048 });
const client = new OpenAI({
  ...{ baseURL: 'http://localhost/v1', apiKey: 'none', maxRetries: 0 },
  fetch: async (url, init) => app.request(url as string, init as RequestInit),
});
const model = 'qwen3-tiny';
const parameters = {
  type: 'object',
  properties: { city: { enum: ['Rome', 'Oslo'] }, days: { type: 'integer', minimum: 1, maximum: 3 } },
  required: ['city'],
};
const functionTool = (name: string, more: object = {}) => ({
  type: 'function' as const,
  function: { name, description: `Does ${name}.`, ...more },
});
const tools = [functionTool('weather', { parameters, strict: true }), functionTool('clock')];
const question = { role: 'user' as const, content: 'Is it warm?' };
const rome = '{"city": "Rome", "days": 2}';
const calls = `<tool_call>\n{"name": "weather", "arguments": ${rome}}\n</tool_call>\n<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>`;
const functions = [
  { name: 'weather', arguments: rome },
  { name: 'clock', arguments: '{}' },
];

beforeEach(() => engine.says(`Let me see.\n${calls}`));

describe("a chat of OpenAI's client", () => {
  it('has calls, gives their results, and gets an answer', async () => {
    const { choices, usage } = await client.chat.completions.create({ model, messages: [question], tools });
    const [{ message, finish_reason }] = choices as [(typeof choices)[number]];
    expect([finish_reason, message.content]).toEqual(['tool_calls', 'Let me see.']);
    const called = message.tool_calls!;
    expect(called.map((call) => ('function' in call ? call.function : call))).toEqual(functions);
    expect(usage!.completion_tokens).toBeGreaterThan(20);
    expect(lines.at(-1)).toMatchObject({ status: 200, finish: 'tool_calls' });
    expect(JSON.stringify(lines)).not.toContain('Rome');

    engine.says('Warm.');
    const results = called.map(({ id }) => ({
      role: 'tool' as const,
      tool_call_id: id,
      content: `of ${id}`,
    }));
    const next = await client.chat.completions.create({
      ...{ model, messages: [question, message, ...results], tools },
    });
    expect(next.choices[0]).toMatchObject({ finish_reason: 'stop', message: { content: 'Warm.' } });
    expect(engine.calls.at(-1)!.prompt).toContain(`of ${called[1]!.id}`);
    // What the model wrote and what the template makes of it are the same tokens.
    const { prompt_tokens_details, prompt_tokens } = next.usage!;
    expect(prompt_tokens_details!.cached_tokens).toBeGreaterThan(usage!.total_tokens - 5);
    expect(prompt_tokens).toBeGreaterThan(usage!.total_tokens);
  });

  it('gets the same as a stream: first which function, then its arguments in pieces', async () => {
    const stream = client.chat.completions.stream({ model, messages: [question], tools });
    const parts: string[] = [];
    stream.on('tool_calls.function.arguments.delta', ({ arguments_delta }) => parts.push(arguments_delta));
    const done: string[] = [];
    stream.on('tool_calls.function.arguments.done', ({ name }) => done.push(name));
    const { choices } = await stream.finalChatCompletion();
    expect(choices[0]).toMatchObject({ finish_reason: 'tool_calls', message: { content: 'Let me see.' } });
    const called = choices[0]!.message.tool_calls!;
    expect(called.map((call) => 'function' in call && call.function)).toMatchObject(functions);
    expect(new Set(called.map(({ id }) => id)).size).toBe(2);
    expect(parts.join('')).toBe(`${rome}{}`);
    expect(parts.length).toBeGreaterThan(6);
    expect(done).toEqual(['weather', 'clock']);
  });

  it("goes on with what its client's helpers made of an answer: parsed parts are left in", async () => {
    const asked = { model, messages: [question], tools };
    const made = await client.chat.completions.stream(asked).finalChatCompletion();
    engine.says(rome);
    const format = {
      type: 'json_schema' as const,
      json_schema: { name: 'a', strict: true, schema: parameters },
    };
    const read = await client.chat.completions.parse({ ...asked, tools: [], response_format: format });
    const { message } = made.choices[0]!;
    const [call] = message.tool_calls!;
    expect(call!.function).toHaveProperty('parsed_arguments', JSON.parse(rome));
    expect(read.choices[0]!.message).toHaveProperty('parsed');
    engine.says('Warm.');
    const results = message.tool_calls!.map(({ id }) => ({
      ...{ role: 'tool' as const, tool_call_id: id, content: '20' },
    }));
    const next = await client.chat.completions.create({
      ...asked,
      messages: [question, message, ...results, read.choices[0]!.message, question],
    });
    expect(next.choices[0]!.message.content).toBe('Warm.');
    expect(engine.calls.at(-1)!.prompt).not.toContain('parsed');
  });

  it('runs functions by its own loop', async () => {
    const asked: unknown[] = [];
    const runner = client.chat.completions.runTools({
      ...{ model, messages: [question] },
      tools: [
        {
          type: 'function',
          function: {
            ...{ name: 'weather', description: 'Weather.', parameters, parse: JSON.parse },
            function: (given: object) => {
              asked.push(given);
              engine.says('Warm.');
              return 'warm';
            },
          },
        },
        { type: 'function', function: { ...tools[1]!.function, parameters: {}, function: () => 'noon' } },
      ],
    });
    expect(await runner.finalContent()).toBe('Warm.');
    expect(asked).toEqual([{ city: 'Rome', days: 2 }]);
  });

  it('chooses: none, one alone, at least one, this one', async () => {
    const ask = async (more: object) => {
      const { choices } = await client.chat.completions.create({
        model,
        messages: [question],
        tools,
        ...more,
      });
      const { message, finish_reason } = choices[0]!;
      return [finish_reason, message.content, message.tool_calls?.length];
    };
    expect(await ask({ tool_choice: 'none' })).toEqual(['stop', `Let me see.\n${calls}`, undefined]);
    const [first, second] = calls.split(/\n(?=<tool_call>)/) as [string, string];
    engine.says(first);
    expect(await ask({ tool_choice: 'required' })).toEqual(['tool_calls', null, 1]);
    expect(await ask({ max_tokens: 25 })).toEqual(['length', null, 1]);
    engine.says(calls);
    expect(await ask({ parallel_tool_calls: false })).toEqual(['tool_calls', null, 1]);
    engine.says(second);
    const clock = { type: 'function', function: { name: 'clock' } };
    expect(await ask({ tool_choice: clock })).toEqual(['tool_calls', null, 1]);
    const among = (mode: string, ...names: string[]) => {
      const functions = names.map((name) => ({ type: 'function', function: { name } }));
      return { tool_choice: { type: 'allowed_tools', allowed_tools: { mode, tools: functions } } };
    };
    for (const mode of ['auto', 'required']) {
      expect(await ask(among(mode, 'clock'))).toEqual(['tool_calls', null, 1]);
      engine.says(first);
      // A call of another one: its tokens are masked.
      await expect(ask(among(mode, 'clock'))).rejects.toMatchObject({ status: 500 });
      expect(await ask(among(mode, 'clock', 'weather'))).toEqual(['tool_calls', null, 1]);
      engine.says(second);
    }
    engine.says(second);
    const chosen = { type: 'function', x: null, function: { name: 'clock', y: null } };
    expect(await ask({ tool_choice: chosen })).toEqual(['tool_calls', null, 1]);
    const choice = among('auto', 'clock').tool_choice;
    const noted = { ...choice, x: null, allowed_tools: { ...choice.allowed_tools, y: null } };
    expect(await ask({ tool_choice: noted })).toEqual(['tool_calls', null, 1]);
    await expect(ask(among('auto', 'clock', 'f'))).rejects.toThrow('tool_choice: there is no function "f"');
    engine.says('Let me see.');
    expect(await ask(among('auto', 'clock'))).toEqual(['stop', 'Let me see.', undefined]);
    await expect(ask({ tool_choice: clock })).rejects.toMatchObject({ status: 500 });
    await expect(ask({ tool_choice: 'any' })).rejects.toThrow(
      "tool_choice: expected 'none', 'auto', 'required', a function or allowed_tools",
    );
  });

  it('has calls or an object, where it asks for both', async () => {
    const schema = {
      ...{ type: 'object', properties: { warm: { type: 'boolean' } }, required: ['warm'] },
      additionalProperties: false,
    };
    const ask = async () => {
      const { choices } = await client.chat.completions.create({
        ...{ model, messages: [question], tools },
        response_format: { type: 'json_schema', json_schema: { name: 'answer', strict: true, schema } },
      });
      const { message, finish_reason } = choices[0]!;
      return [finish_reason, message.content, message.tool_calls?.length];
    };
    engine.says(calls);
    expect(await ask()).toEqual(['tool_calls', null, 2]);
    engine.says('{"warm": true}');
    expect(await ask()).toEqual(['stop', '{"warm": true}', undefined]);
    engine.says('Let me see.');
    await expect(ask()).rejects.toMatchObject({ status: 500 });
  });

  it('is told what of a function cannot be followed, before its turn', async () => {
    const ask = (tool: object) =>
      client.chat.completions.create({ model, messages: [question], tools: [tool] as typeof tools });
    const before = engine.calls.length;
    await expect(ask(functionTool('a b'))).rejects.toThrow('tools[0].function.name: expected up to 64');
    const odd = { type: 'object', properties: { a: { multipleOf: 2 } } };
    await expect(ask(functionTool('f', { parameters: odd }))).rejects.toMatchObject({
      ...{ status: 400, param: 'tools[0].function.parameters.properties.a' },
      message: expect.stringContaining(
        'the parameters of f: the schema cannot be followed at #.properties.a',
      ),
    });
    let deep: object = {};
    for (let i = 0; i < 200; i++) deep = { properties: { a: deep } };
    await expect(ask(functionTool('f', { parameters: deep }))).rejects.toThrow(
      'nests more than 100 levels deep',
    );
    expect(engine.calls).toHaveLength(before);
    const plain = served({ template: withoutTools });
    const refused = await plain.app.request('/v1/chat/completions', {
      ...{ method: 'POST', headers: { 'content-type': 'application/json' } },
      body: JSON.stringify({ model, messages: [question], tools }),
    });
    expect([refused.status, await refused.text()]).toEqual([400, expect.stringContaining('knows no tools')]);
  });

  it.each<[string, object, string]>([
    ['chat/completions', { tools: [...tools, functionTool('a b')] }, 'tools[2].function.name'],
    ['chat/completions', { tools: [...tools, tools[0]] }, 'tools[2].function.name'],
    [
      'chat/completions',
      { tools: [tools[1], functionTool('f', { parameters: { type: 'array' } })], tool_choice: 'auto' },
      'tools[1].function.parameters',
    ],
    [
      'chat/completions',
      {
        response_format: {
          type: 'json_schema',
          json_schema: { name: 'a', schema: { properties: { b: { items: { multipleOf: 2 } } } } },
        },
      },
      'response_format.json_schema.schema.properties.b.items',
    ],
    ['chat/completions', { logit_bias: { 99999: 1 } }, 'logit_bias.99999'],
    [
      'chat/completions',
      {
        messages: [
          question,
          {
            role: 'assistant',
            tool_calls: [{ id: 'c', type: 'function', function: { name: 'f', arguments: '{' } }],
          },
        ],
      },
      'messages[1].tool_calls[0]',
    ],
    [
      'responses',
      {
        input: 'A',
        tools: [
          {
            type: 'function',
            name: 'f',
            parameters: { type: 'object', properties: { b: { multipleOf: 2 } } },
          },
        ],
      },
      'tools[0].parameters.properties.b',
    ],
    [
      'responses',
      {
        input: 'A',
        text: {
          format: {
            type: 'json_schema',
            name: 'a',
            schema: { $ref: '#/$defs/b', $defs: { b: { multipleOf: 2 } } },
          },
        },
      },
      'text.format.schema.$defs.b',
    ],
  ])('is told which parameter of %s is wrong: %j', async (route, body, param) => {
    const answer = await app.request(`/v1/${route}`, {
      ...{ method: 'POST', headers: { 'content-type': 'application/json' } },
      body: JSON.stringify({ model, ...(route === 'responses' ? {} : { messages: [question] }), ...body }),
    });
    expect(answer.status).toBe(400);
    expect(((await answer.json()) as { error: object }).error).toMatchObject({ param });
  });

  it('that leaves in the middle of a call frees its place within a token', async () => {
    const held = 50;
    engine.allow(held);
    const made = engine.made;
    const stream = await client.chat.completions.create({ model, messages: [question], tools, stream: true });
    for await (const { choices } of stream) {
      if (choices[0]?.delta.tool_calls?.[0]?.function?.arguments) break;
    }
    await until(() => service.queue.running === 0);
    expect(engine.made - made).toBeLessThanOrEqual(held);
    await until(() => lines.at(-1)!['code'] === 'client_left');
    engine.allow(Number.POSITIVE_INFINITY);
    engine.says('Warm.');
    const next = await client.chat.completions.create({ model, messages: [question], tools });
    expect(next.choices[0]!.message.content).toBe('Warm.');
  });
});
