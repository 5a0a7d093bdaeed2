// What surrounds replies: health and drain, keys, origins, metrics, the log, and where the server listens.
import { EventEmitter, once } from 'node:events';
import { Hono } from 'hono';
import { describe, expect, it } from 'vitest';
import { listen } from '../../server/listen.ts';
import type { Env } from '../../server/requests.ts';
import { chatBody, eventsOf, post, served, until } from '../support/served.ts';
import { within } from '../support/within.ts';

const chat = '/v1/chat/completions';

describe('health', () => {
  it('is 503 while the model is loaded and while the server ends, 200 between', async () => {
    const { app, service, llm } = served({ loaded: false });
    const health = async () => {
      const answer = await app.request('/health');
      return [answer.status, await answer.json()];
    };
    expect(await health()).toEqual([503, { status: 'loading' }]);
    const early = await post(app, chat, chatBody());
    expect([early.status, early.headers.get('retry-after')]).toEqual([503, '1']);
    expect((await app.request('/v1/models')).status).toBe(503);
    service.ready(llm);
    expect(await health()).toEqual([200, { status: 'ready' }]);
    await service.drain();
    expect(await health()).toEqual([503, { status: 'draining' }]);
    expect((await post(app, chat, chatBody())).status).toBe(503);
  });
});

describe('the end', () => {
  it('waits for those that run and those that wait, and takes no others', async () => {
    const { app, engine, service } = served();
    engine.allow(1);
    const first = await post(app, chat, chatBody({ stream: true }));
    const second = post(app, chat, chatBody());
    await until(() => service.queue.waiting === 1);
    let drained = false;
    const end = service.drain().then(() => {
      drained = true;
    });
    const third = await post(app, chat, chatBody());
    expect([third.status, third.headers.get('connection')]).toEqual([503, 'close']);
    expect(drained).toBe(false);
    engine.allow(Number.POSITIVE_INFINITY);
    expect((await eventsOf(first)).at(-1)).toBe('[DONE]');
    expect((await second).status).toBe(200);
    await end;
  });

  it('cuts what runs and refuses what waits when its time is over', async () => {
    const { app, engine, service } = served();
    engine.allow(1);
    const first = await post(app, chat, chatBody({ stream: true }));
    const second = post(app, chat, chatBody());
    await until(() => service.queue.waiting === 1);
    const drained = service.drain();
    expect(service.cut()).toBe(2);
    await drained;
    const cut = { error: { message: 'the server is shutting down', code: 'shutting_down' } };
    expect((await eventsOf(first)).at(-1)).toMatchObject(cut);
    expect([(await second).status, await (await second).json()]).toMatchObject([503, cut]);
    expect(engine.calls).toHaveLength(1);
  });
});

describe('an API key', () => {
  const asked = (authorization?: string) => ({ headers: { ...(authorization && { authorization }) } });

  it.each([
    [undefined, 401],
    ['Bearer wrong', 401],
    ['Bearer secret ', 200],
    ['Basic secret', 401],
    ['Bearer secret', 200],
    ['bearer secret', 200],
    ['Bearer secretx', 401],
  ])('given as %j is answered %i', async (authorization, status) => {
    const { app, lines } = served({ apiKey: 'secret' });
    const answer = await app.request('/v1/models', asked(authorization));
    expect(answer.status).toBe(status);
    if (status === 401) expect(await answer.json()).toMatchObject({ error: { code: 'invalid_api_key' } });
    expect(JSON.stringify(lines)).not.toContain('secret');
  });

  it('is needed for all but health and the page', async () => {
    const { app } = served({ apiKey: 'secret' });
    const status = async (path: string) => (await app.request(path)).status;
    for (const path of ['/version', '/metrics', '/v1/models/x', '/v1/nothing', '/nothing'])
      expect(await status(path), path).toBe(401);
    for (const path of [chat, '/v1/completions', '/tokenize', '/detokenize', '/v1/embeddings'])
      expect((await post(app, path, {})).status, path).toBe(401);
    expect([await status('/health'), await status('/')]).toEqual([200, 200]);
  });
});

describe('pages of other origins', () => {
  const origin = 'https://chat.example';
  const preflight = {
    method: 'OPTIONS',
    headers: {
      origin,
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'content-type',
    },
  };
  const allowed = (answer: Response) => answer.headers.get('access-control-allow-origin');

  it('are told nothing, unless they are named', async () => {
    const { app } = served();
    expect(allowed(await app.request(chat, preflight))).toBeNull();
    expect(allowed(await post(app, chat, chatBody(), { headers: { origin } }))).toBeNull();
    const { app: open } = served({ corsOrigins: [origin], apiKey: 'secret' });
    expect(allowed(await open.request(chat, preflight))).toBe(origin);
    const headers = { origin, authorization: 'Bearer secret' };
    expect(allowed(await post(open, chat, chatBody(), { headers }))).toBe(origin);
    const other = { ...preflight, headers: { ...preflight.headers, origin: 'https://other.example' } };
    expect(allowed(await open.request(chat, other))).toBeNull();
  });

  it('that are named read the id of a request, and when to try again', async () => {
    const { app } = served({ corsOrigins: [origin], loaded: false });
    const { status, headers } = await post(app, chat, chatBody(), { headers: { origin } });
    expect([status, headers.get('access-control-expose-headers')]).toEqual([503, 'x-request-id,retry-after']);
  });

  it.each([
    ['localhost:8000', 200],
    ['127.0.0.1', 200],
    ['[::1]:8000', 200],
    ['10.0.0.7:8000', 200],
    ['rebound.example:8000', 403],
    ['127.0.0.1.example', 403],
    ['', 403],
  ])('cannot come in by the name %j for this machine: %i', async (host, status) => {
    const { app } = served({ localOnly: true });
    const headers = { host, authorization: 'Bearer secret' };
    expect((await app.request('/v1/models', { headers })).status).toBe(status);
    // Balancers ask without a host.
    expect((await app.request('/health', { headers })).status).toBe(200);
    const { app: keyed } = served({ localOnly: true, apiKey: 'secret' });
    expect((await keyed.request('/v1/models', { headers })).status).toBe(200);
  });
});

it.each([
  ['GET', chat, 'POST'],
  ['DELETE', '/v1/models', 'GET, HEAD'],
  ['PUT', '/v1/models/x', 'GET, HEAD'],
  ['POST', '/health', 'GET, HEAD'],
])('%s of %s is answered 405, with what it takes', async (method, path, allow) => {
  const answer = await served().app.request(path, { method });
  expect([answer.status, answer.headers.get('allow')]).toEqual([405, allow]);
});

describe('metrics', () => {
  it('count replies, tokens and failures under the names of vLLM', async () => {
    const { app, engine, service } = served();
    const first = (await (await post(app, chat, chatBody())).json()) as { usage: Record<string, number> };
    await post(app, chat, chatBody({ max_tokens: 1 }));
    await post(app, chat, chatBody({ nonsense: 1 }));
    engine.allow(0);
    const running = post(app, chat, chatBody());
    const waiting = post(app, chat, chatBody());
    await until(() => service.queue.waiting === 1);
    const answer = await app.request('/metrics');
    expect(answer.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/);
    const text = await answer.text();
    const value = (name: string, labels = '') =>
      Number(new RegExp(`^${name}\\{model_name="qwen3-tiny"${labels}\\} (\\S+)$`, 'm').exec(text)?.[1]);
    const { prompt_tokens, completion_tokens } = first.usage;
    expect(value('vllm:num_requests_running')).toBe(1);
    expect(value('vllm:num_requests_waiting')).toBe(1);
    expect(value('vllm:prompt_tokens_total')).toBe(2 * prompt_tokens!);
    expect(value('vllm:generation_tokens_total')).toBe(completion_tokens! + 1);
    expect(value('vllm:prefix_cache_queries_total')).toBe(2 * prompt_tokens!);
    expect(value('vllm:prefix_cache_hits_total')).toBe(prompt_tokens! - 1);
    expect(value('vllm:request_prompt_tokens_sum')).toBe(2 * prompt_tokens!);
    expect(value('vllm:request_generation_tokens_sum')).toBe(completion_tokens! + 1);
    expect(value('vllm:request_success_total', ',finished_reason="stop"')).toBe(1);
    expect(value('vllm:request_success_total', ',finished_reason="length"')).toBe(1);
    expect(value('vllm:time_to_first_token_seconds_count')).toBe(2);
    expect(value('vllm:inter_token_latency_seconds_count')).toBe(completion_tokens! - 1);
    expect(value('vllm:e2e_request_latency_seconds_count')).toBe(2);
    // In one unit: those of the engine are what the fake one says, and the others parts of the whole.
    expect(value('vllm:request_prefill_time_seconds_sum')).toBeCloseTo(0.004, 9);
    expect(value('vllm:request_decode_time_seconds_sum')).toBeCloseTo(0.02, 9);
    const whole = value('vllm:e2e_request_latency_seconds_sum');
    for (const part of ['request_queue_time', 'time_to_first_token', 'inter_token_latency']) {
      const sum = value(`vllm:${part}_seconds_sum`);
      expect(sum).toBeGreaterThan(0);
      expect(sum).toBeLessThan(whole);
    }
    expect(value('onelaunch:requests_failed_total', ',status="400"')).toBe(1);
    engine.allow(Number.POSITIVE_INFINITY);
    await Promise.all([running, waiting]);
  });
});

describe('the log', () => {
  it('has a line for each request, with numbers and no text', async () => {
    const { app, lines } = served();
    await (
      await post(app, chat, chatBody({ stream: true }), { headers: { 'x-request-id': 'mine-1' } })
    ).text();
    await app.request('/health');
    await app.request('/metrics');
    await until(() => lines.length > 0);
    expect(lines).toEqual([
      {
        time: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
        ...{ id: 'mine-1', method: 'POST', path: chat, status: 200, model: 'qwen3-tiny' },
        ...{ prompt: expect.any(Number), cached: 0, completion: expect.any(Number), finish: 'stop' },
        ...{ queuedMs: expect.any(Number), firstTokenMs: expect.any(Number), totalMs: expect.any(Number) },
      },
    ]);
  });

  it('takes no id that could be a line of its own', async () => {
    const { app, lines } = served();
    await app.request('/version', { headers: { 'x-request-id': 'a b' } });
    expect(lines[0]).toMatchObject({
      id: expect.stringMatching(/^[0-9a-f]{24}$/),
      path: '/version',
      status: 200,
    });
  });
});

describe('tokens', () => {
  it('of a text are those that it is made of', async () => {
    const { app, llm } = served();
    const answer = (await (await post(app, '/tokenize', { prompt: 'A kernel is' })).json()) as {
      tokens: number[];
    };
    const tokens = llm.tokenize('A kernel is', { addSpecialTokens: true });
    expect(answer).toEqual({ count: tokens.length, max_model_len: 512, tokens });
    expect(await (await post(app, '/detokenize', { tokens })).json()).toEqual({ prompt: 'A kernel is' });
  });
});

describe('a list of models', () => {
  it('has the one that is served, whatever its name', async () => {
    const { app } = served({ name: 'Qwen/Qwen3-0.6B' });
    const one = { id: 'Qwen/Qwen3-0.6B', object: 'model', owned_by: 'onelaunch', max_model_len: 512 };
    expect(await (await app.request('/v1/models')).json()).toMatchObject({ object: 'list', data: [one] });
    for (const path of ['/v1/models/Qwen/Qwen3-0.6B', '/v1/models/Qwen%2FQwen3-0.6B'])
      expect(await (await app.request(path)).json()).toMatchObject(one);
  });
});

describe('a place to listen at', () => {
  it('that is taken or not of this machine is refused in a line with a hint', async () => {
    const { app } = served();
    const server = await listen(app, '127.0.0.1', 0);
    const port = Number(new URL(server.url).port);
    await expect(listen(app, '127.0.0.1', port)).rejects.toMatchObject({
      ...{ kind: 'usage', message: `127.0.0.1:${port} is in use already` },
      hint: '--port 0 takes any that is free',
    });
    await server.close(0);
    await expect(listen(app, '203.0.113.1', 0)).rejects.toMatchObject({
      ...{ kind: 'usage', message: '203.0.113.1 is no address of this machine' },
    });
  });
});

it('a server that ends waits for no connection that a client keeps, though its answer ended only then', async () => {
  const gate = new EventEmitter();
  const asked = once(gate, 'asked');
  const app = new Hono<Env>().get('/', async (c) => {
    gate.emit('asked');
    await once(gate, 'answered');
    return c.text('late');
  });
  const server = await listen(app, '127.0.0.1', 0);
  const text = fetch(server.url).then((response) => response.text());
  await asked;
  const closed = server.close(600_000);
  gate.emit('answered');
  expect(await text).toBe('late');
  await within(closed, () => 'the end of a server whose last answer was read');
});
