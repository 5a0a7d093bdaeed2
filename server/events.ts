// An answer in server-sent events, as OpenAI's clients read it.
import type { ApiContext } from './requests.ts';

/** Sends events until `write` has ended, then [DONE] if it says so, where events have no names. What the client has not read yet is kept, so that a
 *  slow one holds no place; it is not more than one reply. */
export function eventStream(
  c: ApiContext,
  named: boolean,
  write: (send: (event: object) => void) => Promise<'done' | 'failed'>,
): Response {
  const encoder = new TextEncoder();
  let left = false;
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => {
      const put = (text: string, name = '') => {
        if (!left) controller.enqueue(encoder.encode(`${name}data: ${text}\n\n`));
      };
      const run = async () => {
        const how = await write((event) => put(JSON.stringify(event), named ? nameOf(event) : ''));
        if (how === 'done' && !named) put('[DONE]');
        if (!left) controller.close();
      };
      c.get('entry').end = run();
    },
    cancel: () => {
      left = true;
    },
  });
  return c.body(body, 200, {
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-cache',
    // Proxies of nginx's kind would hold events back.
    'x-accel-buffering': 'no',
  });
}

const nameOf = (event: { readonly type?: unknown }): string => `event: ${event.type}\n`;
