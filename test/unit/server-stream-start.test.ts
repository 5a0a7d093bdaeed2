// How a stream begins at a socket, at once, in chunks where the client knows them; and how it breaks off where its events cannot be made.
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { connect } from 'node:net';
import { Hono } from 'hono';
import { afterAll, afterEach, expect, it, onTestFinished, vi } from 'vitest';
import { eventStream } from '../../server/events.ts';
import { listen } from '../../server/listen.ts';
import type { Entry, Env } from '../../server/requests.ts';
import { served } from '../support/served.ts';

const { app, engine } = served({ text: 'Once upon a time there was a house.' });
const server = await listen(app, '127.0.0.1', 0);
afterAll(() => server.close(0));
afterEach(() => void vi.useRealTimers());
const url = new URL('/v1/completions', server.url);
const body = JSON.stringify({ model: 'qwen3-tiny', prompt: 'Tell', stream: true, max_tokens: 5 });
const type = 'application/json';

it('does not wait for a timer', { timeout: 20_000 }, async () => {
  vi.useFakeTimers({ toFake: ['setTimeout'] });
  engine.allow(1);
  const asked = request(url, { method: 'POST', headers: { 'content-type': type } });
  onTestFinished(() => void asked.destroy());
  asked.end(body);
  const [answer] = (await once(asked, 'response')) as [IncomingMessage];
  expect(answer.headers).toMatchObject({ 'transfer-encoding': 'chunked' });
  expect(String((await once(answer, 'data'))[0])).toMatch(/^data: \{/);
  engine.allow(10);
  answer.resume();
  await once(answer, 'end');
});

it('has no chunks for a client of HTTP/1.0', async () => {
  const socket = connect(Number(url.port), url.hostname);
  socket.write(
    `POST ${url.pathname} HTTP/1.0\r\ncontent-type: ${type}\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  );
  const [head, ...events] = (await socket.setEncoding('utf8').toArray()).join('').split('\r\n\r\n');
  expect(head).toMatch(/^HTTP\/1.1 200 OK\r\n/);
  expect(head).not.toMatch(/transfer-encoding/i);
  expect(events.join('')).toMatch(/^data: \{[\s\S]*\n\ndata: \[DONE\]\n\n$/);
});

it('that cannot be written breaks off alone, as a mistake of ours', async () => {
  const entry: Entry = { id: 'one', arrived: 0 };
  const reported: unknown[] = [];
  const mistake = new RangeError('Maximum call stack size exceeded');
  const broken = new Hono<Env>().get('/', (c) => {
    c.set('entry', entry);
    return eventStream(
      c,
      false,
      (error) => reported.push(error),
      async ({ send }) => {
        send({ said: 'Once' });
        throw mistake;
      },
    );
  });
  const answer = await broken.request('/');
  await expect(answer.text()).rejects.toThrow(mistake);
  await entry.end;
  expect([entry.status, entry.code, reported]).toEqual([500, 'internal_error', [mistake]]);
});
