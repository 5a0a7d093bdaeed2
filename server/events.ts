// An answer in server-sent events, as OpenAI's clients read it.
import { toApiError } from './api-error.ts';
import { Backlog } from './backlog.ts';
import type { ApiContext } from './requests.ts';

/** Most bytes that wait for a client as they are, beside what its socket holds. */
const readyBytes = 2 ** 16;
/** Most bytes that wait for it deflated. A token with twenty others beside it is 1.7 KB, and 0.45 deflated: a reply of the usual context has room. */
const backlogBytes = 2 ** 21;

export interface Events {
  send(event: object): void;
  /** Whether no more of a reply is to be sent: the client has too much to read. */
  isFull(): boolean;
}

/** Sends events until `write` has ended, then [DONE] if it says so, where events have no names. What the client has not read yet is kept, so that a
 *  slow one holds no place.
 *  @param report takes what `write` throws, a mistake of ours: it breaks off this answer, and no other */
export function eventStream(
  c: ApiContext,
  named: boolean,
  report: (error: unknown) => void,
  write: (events: Events) => Promise<'done' | 'failed'>,
): Response {
  const entry = c.get('entry');
  const { body, put, isFull, end, breakOff } = unreadText();
  const send = (event: object) => put(`${named ? nameOf(event) : ''}data: ${JSON.stringify(event)}\n\n`);
  const run = async () => {
    const how = await write({ send, isFull });
    if (how === 'done' && !named) put('data: [DONE]\n\n');
    end();
  };
  entry.end = run().catch((error: unknown) => {
    ({ status: entry.status, code: entry.code } = toApiError(error, report));
    breakOff(error);
  });
  return c.body(body, 200, {
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-cache',
    // Proxies of nginx's kind would hold events back.
    'x-accel-buffering': 'no',
    ...(knowsChunks(c) && { 'transfer-encoding': 'chunked' }),
  });
}

/** Whether the client reads a body in chunks. Where nothing says that there are some, @hono/node-server waits a millisecond or two for the end of a body
 *  before it sends any of it. */
const knowsChunks = (c: ApiContext): boolean =>
  c.env?.incoming !== undefined && c.env.incoming.httpVersion !== '1.0';

const nameOf = (event: { readonly type?: unknown }): string => `event: ${event.type}\n`;

/** A text as a body that is read as it comes, or later. Knows nothing of what writes it, so that an answer that has been made is held by its bytes alone. */
function unreadText() {
  const encoder = new TextEncoder();
  const backlog = new Backlog();
  let controller!: ReadableStreamDefaultController<Uint8Array>;
  let left = false;
  let ended = false;
  /** Hands on as much as there is room for. */
  const pump = () => {
    while (backlog.bytes > 0 && controller.desiredSize! > 0) controller.enqueue(backlog.take());
    if (ended && backlog.bytes === 0) controller.close();
  };
  const start = (made: typeof controller) => {
    controller = made;
  };
  const cancel = () => {
    left = true;
  };
  const strategy = new ByteLengthQueuingStrategy({ highWaterMark: readyBytes });
  return {
    body: new ReadableStream<Uint8Array>({ start, pull: pump, cancel }, strategy),
    put: (text: string) => {
      if (left) return;
      const bytes = encoder.encode(text);
      const fits = backlog.bytes === 0 && bytes.length <= controller.desiredSize!;
      if (fits) controller.enqueue(bytes);
      else backlog.add(bytes);
      pump();
    },
    isFull: () => backlog.bytes > backlogBytes,
    end: () => {
      ended = true;
      if (!left) pump();
    },
    breakOff: (error: unknown) => {
      if (!left) controller.error(error);
    },
  };
}
