// Clients that read late, or never: what is kept for them, and that it holds no place.
import { randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import { Backlog } from '../../server/backlog.ts';
import { type Events, eventStream } from '../../server/events.ts';
import type { ApiContext } from '../../server/requests.ts';
import { chatBody, eventsOf, post, served, tokenizer, until } from '../support/served.ts';
import { within } from '../support/within.ts';

/** A text of words that are not alike. */
const text = Array.from({ length: 9000 }, (_, i) =>
  Buffer.from(tokenizer.bytes(300 + ((i * 2_654_435_761) % 3500))).toString(),
)
  .join('')
  .replaceAll('\ufffd', '');
const asked = (more: object) => chatBody({ stream: true, logprobs: true, top_logprobs: 20, ...more });

interface Chunk {
  readonly choices: readonly { readonly delta: { readonly content?: string } }[];
}
const saidOf = (events: readonly unknown[]) =>
  (events as Chunk[])
    .flatMap(({ choices }) => choices?.map(({ delta }) => delta.content ?? '') ?? [])
    .join('');

it('a reply is made to its end while nobody reads, and read from its beginning afterwards', async () => {
  const { app, service, engine } = served({ text, context: 8192 });
  const answer = await post(app, '/v1/chat/completions', asked({ max_tokens: 2000 }));
  await until(() => service.queue.running === 0);
  expect(engine.made).toBe(2000);
  const events = await eventsOf(answer);
  expect(events.at(-1)).toBe('[DONE]');
  expect(saidOf(events.slice(0, -1))).toBe(tokenizer.decode(tokenizer.encode(text).slice(0, 2000)));
});

it('a reply of which too much is unread ends, and says so behind what was said', async () => {
  const { app, service, engine, lines } = served({ text, context: 20_000 });
  const answer = await post(app, '/v1/chat/completions', asked({ max_tokens: 15_000 }));
  await until(() => service.queue.running === 0);
  expect(engine.made).toBeLessThan(9000);
  await until(() => lines.length === 1);
  expect(lines[0]).toMatchObject({ status: 499, code: 'reply_unread', finish: 'abort' });
  const events = await eventsOf(answer);
  expect(events.at(-1)).toMatchObject({ error: { code: 'reply_unread' } });
  const said = saidOf(events.slice(0, -1));
  expect(text.startsWith(said)).toBe(true);
  expect(tokenizer.encode(said).length).toBeGreaterThan(4096);
});

/** A stream of events, those of whoever calls send. */
function events() {
  const entry: { end?: Promise<void> } = {};
  const c = {
    get: () => entry,
    body: (body: ReadableStream<Uint8Array>) => new Response(body),
  } as unknown as ApiContext;
  let to: Events = { send: () => {}, isFull: () => false };
  let end = () => {};
  const report = (error: unknown) => {
    throw error;
  };
  const { body } = eventStream(c, false, report, (made) => {
    to = made;
    return new Promise((resolve) => {
      end = () => resolve('done');
    });
  });
  return { reader: body!.getReader(), ...to, end, ended: () => entry.end };
}

it('an event longer than what is kept for a socket is sent at once to who waits for it', async () => {
  const { reader, send, end, ended } = events();
  let next = reader.read();
  // The stream has asked for more by now, and asks no second time.
  await new Promise((resolve) => setImmediate(resolve));
  send({ text: 'x'.repeat(100_000) });
  let bytes = 0;
  for (; bytes < 100_000; next = reader.read()) {
    const { value } = await within(next, () => `an event, behind ${bytes} bytes of it`);
    bytes += value!.length;
  }
  end();
  await ended();
});

it('events for a client that has left are kept nowhere', async () => {
  const { reader, send, isFull, end, ended } = events();
  await reader.cancel();
  send({ text: randomBytes(2 ** 21).toString('hex') });
  expect(isFull()).toBe(false);
  end();
  await ended();
  expect((await reader.read()).done).toBe(true);
});

it('what waits comes as it was given, and takes less while it waits', () => {
  const backlog = new Backlog();
  const given = Array.from({ length: 3000 }, (_, i) => Buffer.from(`data: ${i} `.repeat(1 + (i % 40))));
  given.push(Buffer.alloc(200_000, 'long '));
  const all = Buffer.concat(given);
  const taken: Uint8Array[] = [];
  for (const [i, bytes] of given.entries()) {
    backlog.add(bytes);
    if (i % 500 === 499) taken.push(backlog.take());
  }
  expect(backlog.bytes).toBeLessThan(all.length / 4);
  while (backlog.bytes > 0) taken.push(backlog.take());
  expect(Buffer.concat(taken).equals(all)).toBe(true);
});
