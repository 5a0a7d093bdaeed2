// Requests that mean harm, over real sockets: each is answered an error in OpenAI's shape, and the server goes on.
import type { ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Listening, listen } from '../../server/listen.ts';
import { logNonsense } from '../../server/log.ts';
import { chatBody, eventsOf, served, until } from '../support/served.ts';
import { within } from '../support/within.ts';

const { app, engine, service, reported, lines } = served({ mostBodyBytes: 20_000, queue: 8 });
let server: Listening;
beforeAll(async () => {
  server = await listen(app, '127.0.0.1', 0, {
    onNonsense: logNonsense(service, (line) => lines.push({ ...line })),
  });
});
afterAll(() => server.close(0));

const json = 'content-type: application/json';
const ok = JSON.stringify(chatBody());
const nested = (open: string, close: string, depth: number) => `${open.repeat(depth)}1${close.repeat(depth)}`;
const message = (content: unknown) => JSON.stringify(chatBody({ messages: [{ role: 'user', content }] }));

interface Raw {
  readonly method?: string;
  readonly path?: string;
  readonly headers?: readonly string[];
  readonly body?: string | Buffer;
}

/** The bytes of a request, with the right length unless the header says one. */
function bytesOf({
  method = 'POST',
  path = '/v1/chat/completions',
  headers = [json],
  body = '',
}: Raw): Buffer {
  const hasLength = headers.some((header) => /^(content-length|transfer-encoding)/i.test(header));
  const all = ['host: 127.0.0.1', 'connection: close', ...headers];
  if (!hasLength) all.push(`content-length: ${Buffer.byteLength(body)}`);
  return Buffer.concat([
    Buffer.from(`${method} ${path} HTTP/1.1\r\n${all.join('\r\n')}\r\n\r\n`),
    Buffer.from(body),
  ]);
}

/** What the server answers to bytes, until it closes. */
function answerTo(bytes: Buffer | string): Promise<{ status: number; body: string }> {
  const { port } = new URL(server.url);
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), '127.0.0.1');
    const chunks: Buffer[] = [];
    socket.on('data', (data) => chunks.push(data));
    socket.on('error', reject);
    socket.on('close', () => {
      const [head, ...rest] = Buffer.concat(chunks).toString('utf8').split('\r\n\r\n');
      resolve({ status: Number(head!.split(' ')[1]), body: rest.join('\r\n\r\n') });
    });
    socket.write(bytes);
  });
}

const hostile: readonly (readonly [string, number, Raw])[] = [
  ['no body', 400, {}],
  ['half of JSON', 400, { body: ok.slice(0, 40) }],
  ['JSON with a tail', 400, { body: `${ok}x` }],
  ['single quotes', 400, { body: ok.replaceAll('"', "'") }],
  ['NaN', 400, { body: ok.replace('{', '{"temperature":NaN,') }],
  ['bytes that are no UTF-8', 400, { body: Buffer.from([0x7b, 0xff, 0xfe, 0x7d]) }],
  ['UTF-16', 400, { body: Buffer.from(ok, 'utf16le') }],
  ['zeros', 400, { body: Buffer.alloc(100) }],
  ['null', 400, { body: 'null' }],
  ['a list', 400, { body: '[]' }],
  ['a number', 400, { body: '1' }],
  ['a text', 400, { body: '"x"' }],
  ['an empty object', 400, { body: '{}' }],
  ['lists, 9,000 deep', 400, { body: nested('[', ']', 9000) }],
  ['objects, 3,000 deep', 400, { body: nested('{"a":', '}', 3000) }],
  ['messages, 3,000 deep', 400, { body: message(JSON.parse(nested('[', ']', 3000))) }],
  ['tools, 3,000 deep', 400, { body: `{"tools":${nested('[', ']', 3000)},${ok.slice(1)}` }],
  ['modalities, 9,000 deep', 400, { body: `{"modalities":${nested('[', ']', 9000)},${ok.slice(1)}` }],
  ...[false, true].map((stream): (typeof hostile)[number] => [
    `metadata of ${stream ? 'a streamed' : 'a'} response, 9,000 deep`,
    400,
    {
      path: '/v1/responses',
      body: `{"model":"qwen3-tiny","input":"x","stream":${stream},"metadata":${nested('[', ']', 9000)}}`,
    },
  ]),
  ['__proto__', 400, { body: ok.replace('{', '{"__proto__":{"stream":true},') }],
  ['constructor', 400, { body: ok.replace('{', '{"constructor":{},') }],
  ['an unknown model', 404, { body: JSON.stringify(chatBody({ model: '../../etc/passwd' })) }],
  ['a model of 15,000 characters', 404, { body: JSON.stringify(chatBody({ model: 'x'.repeat(15_000) })) }],
  ['a key of 15,000 characters', 400, { body: JSON.stringify(chatBody({ ['x'.repeat(15_000)]: 1 })) }],
  [
    '1,000 unknown keys',
    400,
    { body: JSON.stringify(Object.fromEntries([...Array(1000).keys()].map((i) => [i, i]))) },
  ],
  ['a number for a text', 400, { body: message(5) }],
  ['an object for a text', 400, { body: message({ text: 'x' }) }],
  ['1e999 for a temperature', 400, { body: ok.replace('{', '{"temperature":1e999,') }],
  ['a seed beyond 2^53', 400, { body: ok.replace('{', '{"seed":99999999999999999999,') }],
  ['a number of tokens beyond 2^31', 400, { body: JSON.stringify(chatBody({ max_tokens: 2 ** 31 })) }],
  ['a prompt longer than the context', 400, { body: message('nut '.repeat(4000)) }],
  ['a body that is too long', 413, { body: message('x'.repeat(30_000)) }],
  [
    'a length that is too long, and nothing behind it',
    413,
    { headers: [json, 'content-length: 99999999999'] },
  ],
  [
    'chunks that are too long',
    413,
    { headers: [json, 'transfer-encoding: chunked'], body: `7530\r\n${'x'.repeat(30_000)}\r\n0\r\n\r\n` },
  ],
  ['a form', 415, { headers: ['content-type: application/x-www-form-urlencoded'], body: ok }],
  [
    'text/plain, which a page of any origin can send',
    415,
    { headers: ['content-type: text/plain'], body: ok },
  ],
  ['no type', 415, { headers: [], body: ok }],
  ['a coding', 415, { headers: [json, 'content-encoding: gzip'], body: ok }],
  [
    'a coding of the transfer beside chunks',
    415,
    {
      headers: [json, 'transfer-encoding: gzip, chunked'],
      body: `${ok.length.toString(16)}\r\n${ok}\r\n0\r\n\r\n`,
    },
  ],
  ['DELETE', 405, { method: 'DELETE', path: '/v1/models' }],
  ['GET of what is posted', 405, { method: 'GET' }],
  ['an unknown path', 404, { path: '/v1/../../etc/passwd' }],
  ['a path that is no URI', 404, { path: '/v1/models/%ff%zz', method: 'GET' }],
  ['an endpoint that is not here', 404, { path: '/v1/moderations', body: '{}' }],
  ['tokens of a vocabulary that is larger', 400, { path: '/detokenize', body: '{"tokens":[4096]}' }],
  ['tokens below 0', 400, { path: '/detokenize', body: '{"tokens":[-1]}' }],
  ['a text that is none', 400, { path: '/tokenize', body: '{"prompt":{}}' }],
  ['two lengths', 400, { headers: [json, 'content-length: 1', 'content-length: 2'], body: ok }],
  [
    'a length and chunks',
    400,
    { headers: [json, 'content-length: 5', 'transfer-encoding: chunked'], body: ok },
  ],
  ['chunks that are none', 400, { headers: [json, 'transfer-encoding: chunked'], body: 'zz\r\n' }],
  ['a header of 40,000 characters', 431, { headers: [json, `x-long: ${'x'.repeat(40_000)}`], body: ok }],
];

describe('a hostile request', () => {
  it('is one of more than forty', () => expect(hostile.length).toBeGreaterThan(40));

  it.each(hostile)('with %s is answered %i', async (_, status, raw) => {
    const answer = await answerTo(bytesOf(raw));
    expect({ status: answer.status, body: JSON.parse(answer.body) }).toEqual({
      status,
      body: {
        error: {
          message: expect.stringMatching(/^.{5,300}$/),
          type: 'invalid_request_error',
          param: answer.body.includes('"param":null') ? null : expect.any(String),
          code: answer.body.includes('"code":null') ? null : expect.any(String),
        },
      },
    });
  });

  it('for a host that is no host is answered too', async () => {
    const { status, body } = await answerTo(
      'GET /health HTTP/1.1\r\nhost: a b/c\r\nconnection: close\r\n\r\n',
    );
    expect({ status, body: JSON.parse(body) }).toMatchObject({
      status: 400,
      body: { error: { param: null } },
    });
  });

  it('that is no HTTP is answered too', async () => {
    const { status, body } = await answerTo('\u0016\u0003\u0001 TLS, perhaps\r\n\r\n');
    expect({ status, body: JSON.parse(body) }).toMatchObject({
      status: 400,
      body: { error: { message: 'the request is no HTTP that can be read' } },
    });
  });
});

it.each([
  ['a host that is no host', 400, 'GET /health HTTP/1.1\r\nhost: a b/c\r\nconnection: close\r\n\r\n'],
  ['no HTTP', 400, 'TLS, perhaps\r\n\r\n'],
  ['no host', 400, 'GET /health HTTP/1.1\r\n\r\n'],
  ['an expectation that nobody knows', 417, bytesOf({ headers: ['expect: magic'] })],
  ['a tunnel', 405, 'CONNECT 127.0.0.1:80 HTTP/1.1\r\nhost: 127.0.0.1:80\r\n\r\n'],
  ['a long header', 431, bytesOf({ headers: [`x-long: ${'x'.repeat(40_000)}`] })],
])('%s, which no route sees, is counted and has a line of the log', async (_, status, bytes) => {
  const count = async () => {
    const text = await service.metrics.registry.metrics();
    return Number(new RegExp(`requests_failed_total\\{.*"${status}"\\} (\\d+)`).exec(text)?.[1] ?? 0);
  };
  const [counted, logged] = [await count(), lines.length];
  const answer = await answerTo(bytes);
  expect(answer.status).toBe(status);
  expect(JSON.parse(answer.body)).toMatchObject({ error: { message: expect.any(String), param: null } });
  expect(await count()).toBe(counted + 1);
  const line = { time: expect.any(String), status, model: 'qwen3-tiny' };
  expect(lines.slice(logged)).toContainEqual(line);
});

describe('after all that', () => {
  it('the server is well, has no mistake of its own to report, and logs nothing of what was said', async () => {
    const answer = await fetch(`${server.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: ok,
    });
    expect(await answer.json()).toMatchObject({ choices: [{ message: { content: 'A kernel is a nut.' } }] });
    expect(reported).toEqual([]);
    const log = JSON.stringify(lines);
    expect(log).not.toContain('nut');
    expect(log).not.toContain('xxx');
    expect(service.queue).toMatchObject({ running: 0, waiting: 0 });
  });

  it('health is told to those who speak HTTP/1.0 and name no host', async () => {
    expect(await answerTo('GET /health HTTP/1.0\r\n\r\n')).toEqual({
      status: 200,
      body: '{"status":"ready"}',
    });
  });

  it('half-open connections hold no place', async () => {
    const { port } = new URL(server.url);
    const halves = ['POST /v1/chat/comp', bytesOf({ body: ok }).subarray(0, 200)].map((bytes) => {
      const socket = connect(Number(port), '127.0.0.1');
      socket.on('error', () => {});
      socket.write(bytes);
      return socket;
    });
    const answer = await answerTo(bytesOf({ body: ok }));
    expect(answer.status).toBe(200);
    for (const socket of halves) socket.destroy();
  });

  it('a client that is gone in the middle of a stream stops its reply within a token', async () => {
    const before = engine.made;
    engine.allow(3);
    const { port } = new URL(server.url);
    const socket = connect(Number(port), '127.0.0.1');
    socket.write(bytesOf({ body: JSON.stringify(chatBody({ stream: true })) }));
    await new Promise((resolve) => socket.once('data', resolve));
    await until(() => engine.made === before + 3);
    socket.destroy();
    await until(() => service.queue.running === 0);
    expect(engine.made).toBeLessThanOrEqual(before + 4);
    engine.allow(Number.POSITIVE_INFINITY);
    expect((await answerTo(bytesOf({ body: ok }))).status).toBe(200);
  });

  it.each([false, true])(
    'requests that stand behind another on a connection leave with it (stream: %s)',
    async (stream) => {
      const before = lines.length;
      engine.allow(1);
      const made = engine.made;
      const { port } = new URL(server.url);
      const socket = connect(Number(port), '127.0.0.1');
      const body = JSON.stringify(chatBody({ stream }));
      const one = `POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n${json}\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
      socket.write(one.repeat(3));
      await until(() => engine.made === made + 1 && service.queue.waiting === 2);
      socket.destroy();
      await until(() => service.queue.running === 0 && service.queue.waiting === 0);
      engine.allow(Number.POSITIVE_INFINITY);
      await until(() => lines.length === before + 3);
      expect(lines.slice(before).map(({ status }) => status)).toEqual([499, 499, 499]);
      expect(engine.made).toBeLessThanOrEqual(made + 2);
    },
  );

  it('a client that reads nothing of a whole answer is cut', async () => {
    const long = served({ text: 'nut '.repeat(8000), context: 8192 });
    // 10 MB, more than sockets hold.
    const asked = chatBody({ logprobs: true, top_logprobs: 20, max_tokens: 6000 });
    const closed: ServerResponse[] = [];
    const fetch: typeof long.app.fetch = (request, env) => {
      const { outgoing } = env as unknown as { outgoing: ServerResponse };
      outgoing.once('close', () => closed.push(outgoing));
      return long.app.fetch(request, env);
    };
    const patient = await listen({ fetch }, '127.0.0.1', 0, { unreadMillis: 200 });
    const socket = connect(Number(new URL(patient.url).port), '127.0.0.1').pause();
    try {
      socket.write(bytesOf({ body: JSON.stringify(asked) }));
      await until(() => closed.length > 0);
      const chunks: Buffer[] = [];
      socket.on('error', () => {}).on('data', (data) => chunks.push(data));
      socket.resume();
      await within(
        new Promise((resolve) => socket.once('close', resolve)),
        () => 'the end of the connection',
      );
      const read = Buffer.concat(chunks).toString();
      expect(read.length).toBeLessThan(Number(/content-length: (\d+)/i.exec(read)![1]));
      expect(long.lines).toMatchObject([{ status: 200, finish: 'length' }]);
    } finally {
      socket.destroy();
      await patient.close(0);
    }
  });

  it('a client that takes what there is waits for the next token as long as it takes', async () => {
    const slow = served();
    const patient = await listen(slow.app, '127.0.0.1', 0, { unreadMillis: 50 });
    try {
      slow.engine.allow(1);
      const answer = await fetch(`${patient.url}/v1/chat/completions`, {
        ...{ method: 'POST', headers: { 'content-type': 'application/json' } },
        body: JSON.stringify(chatBody({ stream: true })),
      });
      await sleep(400);
      slow.engine.allow(Number.POSITIVE_INFINITY);
      expect((await eventsOf(answer)).at(-1)).toBe('[DONE]');
    } finally {
      await patient.close(0);
    }
  });
});
