// Replies over the API, from a scripted engine: what is answered, what reaches the model, what is refused by name.

import { describe, expect, it, vi } from 'vitest';
import { InsufficientMemoryError, KernelTimeoutError } from '../../errors.ts';
import { textOffsets } from '../../server/choices.ts';
import type { unsupported } from '../../server/parameters.ts';
import { chatBody, eventsOf, logprobOf, lost, post, served, tokenizer, until } from '../support/served.ts';

const chat = '/v1/chat/completions';
const completions = '/v1/completions';
const text = 'A kernel is a nut.';
/** The stop token is one of them. */
const replyTokens = tokenizer.encode(text).length + 1;
const promptTokens = tokenizer.encode(
  '<|im_start|>user\nWhat is a kernel?<|im_end|>\n<|im_start|>assistant\n',
).length;
const usage = {
  prompt_tokens: promptTokens,
  completion_tokens: replyTokens,
  total_tokens: promptTokens + replyTokens,
  prompt_tokens_details: { cached_tokens: 0 },
};

interface Failure {
  readonly error: { readonly message: string; readonly param: string | null; readonly code: string | null };
}
const failureOf = async (answer: Response) => ({
  status: answer.status,
  ...((await answer.json()) as Failure).error,
});

describe('a chat', () => {
  it('is answered whole, with its usage', async () => {
    const { app } = served();
    const answer = await post(app, chat, chatBody());
    expect(answer.status).toBe(200);
    expect(await answer.json()).toEqual({
      id: `chatcmpl-${answer.headers.get('x-request-id')}`,
      object: 'chat.completion',
      created: expect.any(Number),
      model: 'qwen3-tiny',
      system_fingerprint: 'fp_0123456789ab',
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: text, refusal: null },
          logprobs: null,
          finish_reason: 'stop',
        },
      ],
      usage,
    });
  });

  it('is streamed: the role, the text in pieces, how it ended, the usage if it is asked for, [DONE]', async () => {
    const { app } = served();
    const answer = await post(app, chat, chatBody({ stream: true, stream_options: { include_usage: true } }));
    expect(answer.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    const events = (await eventsOf(answer)) as { choices: { delta: { content?: string } }[] }[];
    expect(events.at(-1)).toBe('[DONE]');
    expect(events.at(-2)).toMatchObject({ object: 'chat.completion.chunk', choices: [], usage });
    const chunks = events.slice(0, -2);
    expect(chunks[0]).toMatchObject({
      choices: [{ delta: { role: 'assistant', content: '' } }],
      usage: null,
    });
    expect(chunks.at(-1)).toMatchObject({ choices: [{ delta: {}, finish_reason: 'stop' }], usage: null });
    // The first text at once, and what follows: in one event if it comes within 2 ms.
    expect(chunks.length).toBeGreaterThan(3);
    expect(chunks.map(({ choices }) => choices[0]!.delta.content ?? '').join('')).toBe(text);
    expect(new Set(chunks.map((chunk) => JSON.stringify({ ...chunk, choices: [] }))).size).toBe(1);
  });

  it('is streamed without a word of usage where nobody asks', async () => {
    const { app } = served();
    const events = await eventsOf(await post(app, chat, chatBody({ stream: true })));
    expect(JSON.stringify(events)).not.toContain('usage');
    expect(events.at(-2)).toMatchObject({ choices: [{ finish_reason: 'stop' }] });
  });

  it('that goes on keeps the tokens of its beginning, and says how many', async () => {
    const { app } = served();
    await post(app, chat, chatBody());
    const again = (await (await post(app, chat, chatBody())).json()) as { usage: typeof usage };
    expect(again.usage.prompt_tokens_details.cached_tokens).toBe(promptTokens - 1);
  });

  it('hands its parameters to the engine', async () => {
    const { app, engine } = served();
    const sampling = { temperature: 0.5, top_p: 0.9, top_k: 7, min_p: 0.1, seed: 3, presence_penalty: 1.5 };
    const given = { ...sampling, repetition_penalty: 1.25, frequency_penalty: -0.5 };
    const logit_bias = { 5: -100, 4: 2.5 };
    await post(app, chat, chatBody({ ...given, logit_bias, max_completion_tokens: 5 }));
    await post(app, chat, chatBody({ max_tokens: 6, top_k: -1, temperature: null }));
    expect(engine.calls[0]).toMatchObject({ maxTokens: 5, sampling: given, bias: logit_bias });
    expect(engine.calls[1]).toMatchObject({ maxTokens: 6, sampling: { top_k: 0, temperature: 0 } });
  });

  it('has a schema where its response_format says one, and is refused with what of it cannot be followed', async () => {
    const { app, llm } = served();
    const heard = vi.spyOn(llm, 'chat');
    const formatted = (format: unknown) => post(app, chat, chatBody({ response_format: format }));
    const jsonSchema = (schema: object) => ({
      type: 'json_schema',
      json_schema: { name: 'x', strict: true, schema },
    });
    const schema = { type: 'object', properties: { a: { type: 'integer' } }, required: ['a'] };
    await formatted(jsonSchema(schema));
    await formatted({ type: 'json_object' });
    await formatted({ type: 'text' });
    expect(heard.mock.calls.map(([, options]) => options?.schema)).toEqual([
      ...[schema, { type: 'object' }, undefined],
    ]);
    const refused = await formatted(jsonSchema({ properties: { a: { multipleOf: 2 } } }));
    expect(refused.status).toBe(400);
    expect(JSON.stringify(await refused.json())).toContain(
      'at #.properties.a: the keyword multipleOf is not supported',
    );
    expect((await formatted({ type: 'json_schema' })).status).toBe(400);
  });

  it('may say null of what it leaves out, in all that it holds', async () => {
    const { app, llm } = served();
    const heard = vi.spyOn(llm, 'chat');
    const parameters = { type: 'object', properties: { a: { const: null } } };
    const body = chatBody({
      ...{
        stream: true,
        stream_options: { include_usage: null },
        chat_template_kwargs: { enable_thinking: null },
      },
      ...{ response_format: { type: 'text', json_schema: null }, tool_choice: 'none' },
      messages: [
        { role: 'user', audio: null, prefix: null, content: [{ type: 'text', text: 'a', x: null }] },
        {
          role: 'assistant',
          tool_calls: [
            { id: 'a', type: 'function', x: null, function: { name: 'f', arguments: '{}', y: null } },
          ],
        },
        { role: 'tool', tool_call_id: 'a', content: 'b' },
      ],
      tools: [{ type: 'function', x: null, function: { name: 'f', y: null, parameters } }],
    });
    const answer = await post(app, chat, body);
    expect(answer.status).toBe(200);
    await answer.text();
    expect(heard.mock.calls[0]![1]).toMatchObject({ enableThinking: undefined, schema: undefined });
    expect(heard.mock.calls[0]![1]!.tools![0]!.function.parameters).toEqual(parameters);
  });

  it('takes parts of text, the developer as the system, and an answer as it was given', async () => {
    const { app, engine, llm } = served();
    const heard = vi.spyOn(llm, 'chat');
    const messages = [
      { role: 'developer', content: 'Be brief.' },
      {
        role: 'user',
        content: [
          { type: 'text', text: 'What ' },
          { type: 'text', text: 'now?' },
        ],
      },
      { role: 'assistant', content: 'A nut.', refusal: null, tool_calls: [] },
      { role: 'user', content: 'And then?', name: 'Ann' },
    ];
    const answer = await post(
      app,
      chat,
      chatBody({ messages, chat_template_kwargs: { enable_thinking: false } }),
    );
    expect(answer.status).toBe(200);
    expect(heard.mock.calls[0]![0].map(({ role }) => role)).toEqual(['system', 'user', 'assistant', 'user']);
    expect(heard.mock.calls[0]![1]).toMatchObject({ enableThinking: false });
    expect(engine.calls[0]!.prompt).toContain('Be brief.');
    expect(engine.calls[0]!.prompt).toContain('What now?');
  });

  it.each([
    [{ max_tokens: 2 }, 'length'],
    [{ stop: 'nut' }, 'stop'],
    [{ stop: ['x', ' is'] }, 'stop'],
    [{}, 'stop'],
  ])('with %j ends by %s', async (more, reason) => {
    const { app } = served();
    const body = (await (await post(app, chat, chatBody(more))).json()) as {
      choices: { finish_reason: string }[];
    };
    expect(body.choices[0]!.finish_reason).toBe(reason);
  });
});

describe('a completion', () => {
  const body = (more: object = {}) => ({ model: 'qwen3-tiny', prompt: 'A kernel', ...more });

  it('is answered, of a text and of tokens alike, with 16 tokens at most unless it says so', async () => {
    const { app, engine } = served();
    const ids = tokenizer.encode('A kernel');
    for (const prompt of ['A kernel', ['A kernel'], ids, [ids]]) {
      const answer = await post(app, completions, body({ prompt }));
      expect(await answer.json()).toMatchObject({
        id: expect.stringMatching(/^cmpl-/),
        object: 'text_completion',
        choices: [{ index: 0, text, logprobs: null, finish_reason: 'stop' }],
      });
    }
    await post(app, completions, body({ max_tokens: 3 }));
    expect(engine.calls.map(({ maxTokens }) => maxTokens)).toEqual([16, 16, 16, 16, 3]);
  });

  it('is streamed', async () => {
    const { app } = served();
    const events = (await eventsOf(await post(app, completions, body({ stream: true })))) as {
      choices: { text: string }[];
    }[];
    expect(events.at(-1)).toBe('[DONE]');
    const texts = events.slice(0, -1).map(({ choices }) => choices[0]!.text);
    expect(texts.join('')).toBe(text);
    expect(events.at(-2)).toMatchObject({ choices: [{ finish_reason: 'stop' }] });
  });
});

describe('log probabilities', () => {
  const ids = [...tokenizer.encode(text), tokenizer.idOf('<|im_end|>')!];
  const word = (id: number) => {
    const bytes = [...tokenizer.bytes(id)];
    return { token: Buffer.from(bytes).toString(), logprob: logprobOf(id), bytes };
  };
  const content = ids.map((id) => ({ ...word(id), top_logprobs: [word(id + 1), word(id + 2)] }));

  it('of a chat are told of each token, whole and streamed', async () => {
    const { app } = served();
    const asked = { logprobs: true, top_logprobs: 2 };
    const { choices } = (await (await post(app, chat, chatBody(asked))).json()) as Chosen;
    expect(choices[0]!.logprobs).toEqual({ content, refusal: null });
    const events = await eventsOf(await post(app, chat, chatBody({ ...asked, stream: true })));
    const told = (events.slice(0, -1) as Chosen[]).flatMap(
      (event) => event.choices[0]!.logprobs?.content ?? [],
    );
    expect(told).toEqual(content);
  });

  it('of a chat are those of the tokens alone unless it asks for others, and of what a stop text ends', async () => {
    const { app } = served();
    const { choices } = (await (
      await post(app, chat, chatBody({ logprobs: true, stop: 'nut' }))
    ).json()) as Chosen;
    const said = choices[0]!.logprobs!.content!;
    expect(said).toEqual(content.slice(0, said.length).map((one) => ({ ...one, top_logprobs: [] })));
    expect(said.length).toBeLessThan(content.length);
  });

  it('of a completion have their places in the text, whole and streamed', async () => {
    const { app } = served();
    const body = { model: 'qwen3-tiny', prompt: 'x', logprobs: 1, max_tokens: 100 };
    const words = ids.map(word);
    const expected = {
      tokens: words.map(({ token }) => token),
      token_logprobs: words.map(({ logprob }) => logprob),
      top_logprobs: ids.map((id) => ({
        [word(id + 1).token]: word(id + 1).logprob,
        [word(id).token]: word(id).logprob,
      })),
      text_offset: words.map(
        (_, i) =>
          words
            .slice(0, i)
            .map(({ token }) => token)
            .join('').length,
      ),
    };
    const { choices } = (await (await post(app, completions, body)).json()) as Chosen;
    expect(choices[0]!.logprobs).toEqual(expected);
    const events = (await eventsOf(await post(app, completions, { ...body, stream: true }))).slice(
      0,
      -1,
    ) as Chosen[];
    const parts = events.flatMap((event) => event.choices[0]!.logprobs ?? []) as Record<string, unknown[]>[];
    for (const [key, all] of Object.entries(expected))
      expect(parts.flatMap((part) => part[key]!)).toEqual(all);
  });

  it('of a character that several tokens make begin where it does, whole and streamed', async () => {
    const { app } = served({ text: 'a😀b' });
    const body = { model: 'qwen3-tiny', prompt: 'x', logprobs: 0, max_tokens: 6 };
    const { choices } = (await (await post(app, completions, body)).json()) as Chosen;
    expect(choices[0]!.logprobs).toMatchObject({ text_offset: [0, 1, 1, 1, 1, 3] });
    const events = await eventsOf(await post(app, completions, { ...body, stream: true }));
    const offsets = (
      events.slice(0, -1) as { choices: { logprobs: { text_offset: number[] } | null }[] }[]
    ).flatMap((event) => event.choices[0]!.logprobs?.text_offset ?? []);
    expect(offsets).toEqual([0, 1, 1, 1, 1, 3]);
  });

  it('behind a character that is broken off begin behind its U+FFFD', () => {
    const offsetOf = textOffsets();
    const told = [[0xf0, 0x9f], [0x49], [0x98], [0xe2, 0x82], [], [0xac], [0x42]].map((bytes) =>
      offsetOf({ token: 0, text: '', bytes, logprob: 0, top: [] }),
    );
    expect(told).toEqual([0, 1, 2, 3, 3, 3, 4]);
  });

  interface Chosen {
    readonly choices: readonly { readonly logprobs: { readonly content?: readonly object[] } | null }[];
  }
});

describe('a refusal', () => {
  it('of a prompt without tokens names it', async () => {
    const { app } = served();
    for (const prompt of ['', [''], [[]]]) {
      const refused = await post(app, completions, { model: 'qwen3-tiny', prompt });
      const error = { message: 'the prompt has no tokens', param: 'prompt' };
      expect([refused.status, await refused.json()]).toMatchObject([400, { error }]);
    }
  });

  /** What a client could ask for with each parameter that is not followed. */
  const asked: Record<keyof typeof unsupported, unknown> = {
    n: 2,
    best_of: 3,
    prompt_logprobs: 1,
    response_format: { type: 'json_object' },
    tools: [{ type: 'function', function: { name: 'f' } }],
    tool_choice: 'required',
    parallel_tool_calls: 'no',
    functions: [{ name: 'f' }],
    function_call: { name: 'f' },
    modalities: ['text', 'audio'],
    audio: { voice: 'a' },
    prediction: { type: 'content', content: 'x' },
    reasoning_effort: 'low',
    verbosity: 'low',
    web_search_options: {},
    echo: true,
    suffix: 'x',
    structured_outputs: {},
    guided_json: {},
    guided_regex: 'x',
    guided_grammar: 'x',
    guided_choice: ['a'],
  };

  /** By chats. */
  const followed = ['response_format', 'tools', 'tool_choice', 'parallel_tool_calls'];

  it.each(Object.entries(asked))('of %s: %j names it', async (name, value) => {
    const { app, engine } = served();
    for (const [path, body] of [
      ...(followed.includes(name) ? [] : [[chat, chatBody({ [name]: value })] as const]),
      [completions, { model: 'qwen3-tiny', prompt: 'x', [name]: value }],
    ] as const) {
      const failure = await failureOf(await post(app, path, body));
      expect(failure).toMatchObject({ status: 400, param: name, code: 'unsupported_parameter' });
      expect(failure.message).toMatch(new RegExp(`^${name} is not supported here`));
    }
    expect(engine.calls).toEqual([]);
  });

  it('does not meet parameters that ask for nothing, nor those of which no reply depends', async () => {
    const nothing = {
      ...{ n: 1, logprobs: false, logit_bias: {}, frequency_penalty: 0, tools: [], tool_choice: 'auto' },
      ...{
        response_format: { type: 'text' },
        modalities: ['text'],
        functions: [],
        echo: false,
        suffix: null,
      },
      ...{ user: 'u', metadata: { a: 'b' }, store: true, service_tier: 'auto', prompt_cache_key: 'k' },
    };
    const { app } = served();
    expect((await post(app, chat, chatBody(nothing))).status).toBe(200);
  });

  const namedFormat = (schema: unknown) => ({
    response_format: { type: 'json_schema', json_schema: { name: 'a', schema } },
  });
  const bad: readonly (readonly [object, string, string])[] = [
    [{ temprature: 1 }, 'temprature', 'unknown parameter: temprature'],
    [{ temperature: -1 }, 'temperature', 'temperature: expected at least 0'],
    [{ temperature: '1' }, 'temperature', 'temperature: expected number, received string'],
    [{ top_p: 0 }, 'top_p', 'top_p: expected more than 0'],
    [{ top_p: 1.5 }, 'top_p', 'top_p: expected at most 1'],
    [{ presence_penalty: 3 }, 'presence_penalty', 'presence_penalty: expected at most 2'],
    [{ top_logprobs: 2 }, 'top_logprobs', 'top_logprobs is for logprobs: true'],
    [{ logprobs: true, top_logprobs: 21 }, 'top_logprobs', 'top_logprobs: expected at most 20'],
    [{ logprobs: 1 }, 'logprobs', 'logprobs: expected boolean'],
    [{ logit_bias: { 5: 101 } }, 'logit_bias.5', 'logit_bias.5: expected at most 100'],
    [{ logit_bias: { a: 1 } }, 'logit_bias.a', 'logit_bias.a: expected token ids'],
    [{ logit_bias: JSON.parse('{"5":1,"__proto__":2}') }, 'logit_bias', 'logit_bias: expected token ids'],
    [{ logit_bias: [1] }, 'logit_bias', 'logit_bias: expected biases'],
    [{ seed: 1.5 }, 'seed', 'seed: expected int, received number'],
    [{ max_tokens: 0 }, 'max_tokens', 'max_tokens: expected at least 1'],
    [{ max_tokens: 1e300 }, 'max_tokens', 'max_tokens: expected at most 2147483647'],
    [
      { max_tokens: 1, max_completion_tokens: 2 },
      'max_tokens',
      'max_tokens and max_completion_tokens are two',
    ],
    [{ stop: '' }, 'stop', 'stop: expected at least 1 character'],
    [{ stop: Array(17).fill('a') }, 'stop', 'stop: expected a text, or up to 16'],
    [{ stream: 'yes' }, 'stream', 'stream: expected boolean'],
    [{ stream_options: { include_usage: true } }, 'stream_options', 'stream_options is for stream: true'],
    [
      { chat_template_kwargs: { enable_thinkin: false } },
      'chat_template_kwargs.enable_thinkin',
      'unknown parameter: chat_template_kwargs.enable_thinkin',
    ],
    [{ messages: [] }, 'messages', 'messages: expected one or more'],
    [{ messages: 'Hi' }, 'messages', 'messages: expected array'],
    [{ messages: [{ role: 'user' }] }, 'messages[0].content', 'messages[0].content is missing'],
    [
      { messages: [{ role: 'assistant', content: 'x', refusal: 'no' }] },
      'messages[0].refusal',
      'messages[0].refusal is not supported here',
    ],
    [{ messages: [{ role: 'bot', content: 'x' }] }, 'messages[0].role', 'messages[0].role: expected system'],
    [
      { messages: [{ role: 'tool', content: 'x' }] },
      'messages[0].tool_call_id',
      'messages[0].tool_call_id is missing',
    ],
    [
      { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'x' } }] }] },
      'messages[0].content',
      'messages[0].content: expected a text, or parts of type text',
    ],
    [
      { messages: [{ role: 'assistant', content: null, tool_calls: [{ id: 'a' }] }] },
      'messages[0].tool_calls[0].type',
      'messages[0].tool_calls[0].type: expected "function"',
    ],
    [
      { messages: [{ role: 'user', content: 'x', tool_call_id: 'a' }] },
      'messages[0].tool_call_id',
      'messages[0].tool_call_id is for messages of tool',
    ],
    [
      { tools: [{ type: 'web_search' }] },
      'tools[0].type',
      'tools[0].type: functions are all that is supported',
    ],
    [{ tool_choice: 'required' }, 'tool_choice', 'tool_choice: required is for requests with tools'],
    [
      { tool_choice: { type: 'function', function: { name: 'f' } } },
      'tool_choice',
      'tool_choice: there is no function "f" in tools',
    ],
    [
      { logit_bias: Object.fromEntries([...Array(1025).keys()].map((id) => [id, 1])) },
      'logit_bias',
      'logit_bias has 1025 tokens, and there may be 1024',
    ],
    [{ logit_bias: { 4096: 1 } }, 'logit_bias.4096', 'logit_bias has token 4096, which the model does not'],
    [
      namedFormat(JSON.parse('{"type":"object","__proto__":{"type":"string"}}')),
      'response_format.json_schema.schema',
      'the schema cannot be followed at #: the keyword __proto__ is not supported',
    ],
    [
      namedFormat([]),
      'response_format.json_schema.schema',
      'response_format.json_schema.schema: expected an object',
    ],
    [
      namedFormat(undefined),
      'response_format.json_schema.schema',
      'response_format.json_schema.schema is missing: expected an object',
    ],
    [
      { tools: [{ type: 'function', function: { name: 'f', parameters: JSON.parse('{"__proto__":1}') } }] },
      'tools[0].function.parameters',
      'the parameters of f: the schema cannot be followed at #: the keyword __proto__ is not supported',
    ],
    [{ parallel_tool_calls: 'no' }, 'parallel_tool_calls', 'parallel_tool_calls: expected boolean'],
    [{ model: 3 }, 'model', 'model: expected string, received number'],
    [{ model: null }, 'model', 'model is missing: expected string'],
  ];
  it.each(bad)('of %j is of %s', async (more, param, message) => {
    const { app, engine } = served();
    const failure = await failureOf(await post(app, chat, chatBody(more)));
    expect(failure).toMatchObject({ status: 400, param, type: 'invalid_request_error' });
    expect(failure.message.slice(0, message.length)).toBe(message);
    expect(engine.calls).toEqual([]);
  });

  it.each([
    [chat, 'messages', chatBody({})],
    ['/v1/responses', 'input', { model: 'qwen3-tiny' }],
  ])('%s of more %s than it would be read in good time is told how many', async (path, param, body) => {
    // What is too long for the context is refused behind what was made of each message.
    const { app, engine } = served({ context: 40_000 });
    const several = (count: number) => ({
      ...body,
      [param]: Array(count).fill({ role: 'user', content: 'a' }),
    });
    expect(await failureOf(await post(app, path, several(5001)))).toMatchObject({
      ...{ status: 400, param, message: `${param}: expected at most 5000 items` },
    });
    expect(engine.calls).toHaveLength(0);
    expect((await post(app, path, several(5000))).status).toBe(200);
  });

  it('of several prompts, and of tokens that the model has not, is one line', async () => {
    const { app } = served();
    const ask = async (prompt: unknown) =>
      failureOf(await post(app, completions, { model: 'qwen3-tiny', prompt }));
    expect(await ask(['a', 'b'])).toMatchObject({ status: 400, param: 'prompt' });
    expect(await ask([])).toMatchObject({ status: 400, param: 'prompt' });
    expect(await ask([4096])).toMatchObject({
      ...{ status: 400, param: 'prompt[0]', message: 'prompt[0]: expected less than 4096' },
    });
  });

  it.each([
    [chat, 'messages', chatBody({ stream: true })],
    [completions, 'prompt', { model: 'qwen3-tiny', prompt: 'a b c d e f g h' }],
    ['/v1/responses', 'input', { model: 'qwen3-tiny', input: 'a' }],
  ])('of a prompt that does not fit says what does: %s', async (path, param, body) => {
    const { app, service } = served({ context: 8 });
    const failure = await failureOf(await post(app, path, body));
    expect(failure).toMatchObject({ status: 400, param, code: 'context_length_exceeded' });
    expect(failure.message).toContain('and the context holds 8');
    expect(service.queue.running).toBe(0);
  });

  it('of an object with more keys than any request needs comes before its keys are looked at', async () => {
    const { app } = served();
    const many = Object.fromEntries(Array.from({ length: 5001 }, (_, i) => [`k${i}`, 1]));
    for (const body of [many, chatBody({ logit_bias: many }), chatBody({ metadata: [[many]] })]) {
      expect(await failureOf(await post(app, '/v1/chat/completions', body))).toMatchObject({
        ...{ status: 400, message: 'an object in the body has 5001 keys: there may be 5000' },
      });
    }
  });

  it('of a body that no prompt of the context needs comes before it is read as tokens', async () => {
    const { app, llm } = served({ context: 1024 });
    const ask = async (bytes: number) => {
      const rest = JSON.stringify({ model: 'qwen3-tiny', prompt: '' }).length;
      return failureOf(
        await post(app, completions, { model: 'qwen3-tiny', prompt: ' '.repeat(bytes - rest) }),
      );
    };
    const most = 64 * 1024 + 16 * 1024;
    expect(await ask(most + 1)).toMatchObject({
      status: 413,
      message: `the body has more than ${most} bytes`,
    });
    const read = vi.spyOn(llm, 'complete');
    await ask(most);
    expect(read).toHaveBeenCalledTimes(1);
  });

  it('of an unknown model is 404', async () => {
    const { app } = served();
    const failure = await failureOf(await post(app, chat, chatBody({ model: 'gpt-4o' })));
    expect(failure).toMatchObject({ status: 404, param: 'model', code: 'model_not_found' });
    expect((await app.request('/v1/models/gpt-4o')).status).toBe(404);
  });
});

describe('turns', () => {
  it('are taken one after the other, in the order of arrival', async () => {
    const { app, engine, service, lines } = served();
    engine.allow(0);
    const ask = (word: string) =>
      post(app, completions, { model: 'qwen3-tiny', prompt: word }, { headers: { 'x-request-id': word } });
    const all = ['one', 'two', 'three'].map((word) => ask(word).then((answer) => answer.json()));
    await until(() => service.queue.waiting === 2);
    expect(service.queue.running).toBe(1);
    engine.allow(Number.POSITIVE_INFINITY);
    for (const body of await Promise.all(all)) expect(body).toMatchObject({ choices: [{ text }] });
    expect(engine.calls.map(({ prompt }) => prompt)).toEqual(['one', 'two', 'three']);
    expect(lines.map(({ id }) => id)).toEqual(['one', 'two', 'three']);
  });

  it('are taken by two at a time of a model with two places', async () => {
    const { app, engine, other, service } = served({ parallel: 2 });
    engine.allow(1);
    other.allow(1);
    const all = [1, 2, 3].map(() => post(app, chat, chatBody()));
    await until(() => engine.made + other.made === 2 && service.queue.waiting === 1);
    expect(service.queue.running).toBe(2);
    for (const one of [engine, other]) one.allow(Number.POSITIVE_INFINITY);
    for (const answer of await Promise.all(all))
      expect(await answer.json()).toMatchObject({ choices: [{ message: { content: text } }] });
  });

  it('are refused when too many wait, with the time to ask again', async () => {
    const { app, engine, service } = served({ queue: 1 });
    engine.allow(0);
    const first = post(app, chat, chatBody());
    const second = post(app, chat, chatBody());
    await until(() => service.queue.waiting === 1);
    const third = await post(app, chat, chatBody({ stream: true }));
    expect(third.headers.get('retry-after')).toBe('1');
    expect(await failureOf(third)).toMatchObject({ status: 503, code: 'queue_full' });
    engine.allow(Number.POSITIVE_INFINITY);
    expect([(await first).status, (await second).status]).toEqual([200, 200]);
  });

  it('of clients that leave while they wait never reach the model', async () => {
    const { app, engine, service, lines } = served();
    engine.allow(0);
    const gone = new AbortController();
    const first = post(app, chat, chatBody());
    const second = post(app, chat, chatBody(), { signal: gone.signal });
    await until(() => service.queue.waiting === 1);
    gone.abort();
    expect((await second).status).toBe(499);
    engine.allow(Number.POSITIVE_INFINITY);
    await first;
    expect(engine.calls).toHaveLength(1);
    expect(lines.map(({ status }) => status)).toEqual([499, 200]);
  });
});

describe('a client that leaves', () => {
  it.each([false, true])(
    'stops its reply within a token, and frees the place (stream: %s)',
    async (stream) => {
      const { app, engine, service, lines } = served();
      engine.allow(3);
      const gone = new AbortController();
      const first = post(app, chat, chatBody({ stream }), { signal: gone.signal });
      if (stream) {
        const reader = (await first).body!.getReader();
        await reader.read();
      }
      await until(() => engine.made === 3);
      gone.abort();
      engine.allow(Number.POSITIVE_INFINITY);
      await until(() => service.queue.running === 0);
      expect(engine.made).toBeLessThanOrEqual(4);
      await first;
      await until(() => lines.length === 1);
      expect(lines[0]).toMatchObject({ status: 499, finish: 'abort', code: 'client_left' });
      expect((await post(app, chat, chatBody())).status).toBe(200);
    },
  );
});

it('of a client that leaves before its first token there is no time of one, in the log and in the metrics', async () => {
  const { app, engine, service, lines } = served();
  engine.allow(0);
  const gone = new AbortController();
  const answer = post(app, chat, chatBody(), { signal: gone.signal });
  await until(() => engine.calls.length === 1);
  gone.abort();
  expect((await answer).status).toBe(499);
  expect(lines[0]).toMatchObject({ completion: 0, finish: 'abort', firstTokenMs: null });
  const metrics = await service.metrics.registry.metrics();
  expect(metrics).not.toMatch(/^vllm:time_to_first_token_seconds_count/m);
  expect(metrics).toMatch(/^vllm:e2e_request_latency_seconds_count\{.*\} 1$/m);
});

describe('a reply that takes too long', () => {
  it.each([false, true])('is ended and says so (stream: %s)', async (stream) => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const { app, engine, service } = served({ replyMillis: 5000 });
      engine.allow(2);
      const asked = post(app, chat, chatBody({ stream }));
      await until(() => engine.made === 2);
      await vi.advanceTimersByTimeAsync(5000);
      const wanted = {
        message: 'the reply took longer than 5 s',
        code: 'reply_timeout',
        type: 'server_error',
      };
      const answer = await asked;
      if (stream) expect((await eventsOf(answer)).at(-1)).toMatchObject({ error: wanted });
      else expect(await failureOf(answer)).toMatchObject({ status: 504, ...wanted });
      expect(service.queue.running).toBe(0);
    } finally {
      vi.useRealTimers();
    }
  });
});

describe('an engine that fails', () => {
  it('is told as an error of the server, and leaves the place free', async () => {
    const { app, engine, reported, lines } = served();
    engine.failure = lost();
    expect(await failureOf(await post(app, chat, chatBody()))).toMatchObject({
      ...{ status: 500, message: 'attention: the device is lost', code: 'model_failed' },
    });
    engine.failure = new TypeError('x is undefined');
    expect(await failureOf(await post(app, chat, chatBody()))).toMatchObject({
      ...{ status: 500, code: 'internal_error' },
    });
    expect(reported).toHaveLength(2);
    engine.failure = undefined;
    expect((await post(app, chat, chatBody())).status).toBe(200);
    const late = { stage: 'qkv', timeoutMs: 2000 };
    for (const [failure, status, code] of [
      [new InsufficientMemoryError('out of memory', { hint: 'less' }), 503, 'insufficient_memory'],
      [new RangeError('Array buffer allocation failed'), 503, 'insufficient_memory'],
      [new KernelTimeoutError('block 1 waited too long', late), 500, 'kernel_timeout'],
    ] as const) {
      engine.failure = failure;
      const answer = await post(app, chat, chatBody());
      expect(answer.headers.get('retry-after')).toBe(status === 503 ? '1' : null);
      expect(await failureOf(answer)).toMatchObject({ status, code, type: 'server_error' });
    }
    expect(lines.splice(3)).toHaveLength(3);
    expect(lines.map(({ status, code }) => [status, code])).toEqual([
      [500, 'model_failed'],
      [500, 'internal_error'],
      [200, undefined],
    ]);
  });
});
