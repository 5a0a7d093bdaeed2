// One streamed completion, as a client sees it.
import { z } from 'zod';

/** What a client asks for, besides the model. */
export interface Asked {
  readonly prompt: string;
  readonly max_tokens: number;
  readonly temperature: number;
  readonly seed: number;
}

/** What came of it; times by performance.now() [ms]. */
export interface Streamed {
  readonly text: string;
  /** null: the stream ended without saying how. */
  readonly finish: string | null;
  readonly tokens: number;
  /** When it was asked for. */
  readonly begun: number;
  /** When each piece of text came. */
  readonly times: readonly number[];
  /** When its stream had ended. */
  readonly ended: number;
}

const eventSchema = z.object({
  choices: z.array(z.object({ text: z.string(), finish_reason: z.string().nullable() })),
  usage: z.object({ completion_tokens: z.int() }).nullish(),
});

/** @throws Error where the server refuses, or the connection breaks */
export async function stream(url: string, model: string, asked: Asked): Promise<Streamed> {
  const begun = performance.now();
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model, ...asked, stream: true, stream_options: { include_usage: true } }),
  });
  if (!response.ok || response.body === null)
    throw new Error(`status ${response.status}: ${(await response.text()).slice(0, 300)}`);
  let text = '';
  let finish: string | null = null;
  let tokens = 0;
  const times: number[] = [];
  for await (const data of eventsOf(response.body)) {
    if (data === '[DONE]') continue;
    const { choices, usage } = eventSchema.parse(JSON.parse(data));
    tokens = usage?.completion_tokens ?? tokens;
    for (const choice of choices) {
      if (choice.text !== '') times.push(performance.now());
      text += choice.text;
      finish = choice.finish_reason ?? finish;
    }
  }
  return { text, finish, tokens, begun, times, ended: performance.now() };
}

/** The data of server-sent events. */
async function* eventsOf(body: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let buffer = '';
  for await (const bytes of body) {
    buffer += decoder.decode(bytes, { stream: true });
    const events = buffer.split('\n\n');
    buffer = events.pop()!;
    for (const event of events) if (event.startsWith('data: ')) yield event.slice('data: '.length);
  }
}
