// A reply as the answer to its request: whole, or as a stream of chunks.
import type { ChosenLogprob, Reply, ReplyResult } from '../runtime/reply.ts';
import { errorBody, toApiError } from './api-error.ts';
import { eventStream } from './events.ts';
import type { ApiContext } from './requests.ts';
import type { ServedModel, Service } from './service.ts';

type FinishReason = 'stop' | 'length';

/** How an endpoint words a reply. */
export interface Form {
  readonly prefix: string;
  /** `object` of a whole answer and of a chunk. */
  readonly objects: { readonly whole: string; readonly chunk: string };
  /** The choice of a whole answer. */
  whole(text: string, reason: FinishReason, logprobs: object | null): object;
  /** The choice of the first chunk, where one comes before the text. */
  readonly opening: object | null;
  piece(text: string, logprobs: object | null): object;
  closing(reason: FinishReason): object;
  /** @param offset of the first of these tokens in the text of all */
  logprobs(tokens: readonly ChosenLogprob[], offset: number): object;
}

export interface Asked {
  readonly stream: boolean;
  readonly includeUsage: boolean;
  start(model: ServedModel, signal: AbortSignal): Reply;
}

/** Waits for its turn and for the first text before anything is sent: what fails until then has a status of its own. */
export async function answerReply(
  c: ApiContext,
  service: Service,
  report: (error: unknown) => void,
  form: Form,
  { stream, includeUsage, start }: Asked,
): Promise<Response> {
  const entry = c.get('entry');
  const { manifest } = service.model();
  const base = (object: string) => ({
    id: `${form.prefix}-${entry.id}`,
    object,
    created: Math.floor(Date.now() / 1000),
    model: service.name,
    system_fingerprint: `fp_${manifest.hash.slice(0, 12)}`,
  });
  const pieces = service.reply(start, {
    signal: c.req.raw.signal,
    tell: (facts) => {
      entry.reply = facts;
    },
  });
  if (!stream) {
    let next = await pieces.next();
    while (!next.done) next = await pieces.next();
    const { value: result } = next;
    const logprobs = result.logprobs ? form.logprobs(result.logprobs, 0) : null;
    const choices = [form.whole(result.text, reasonOf(result), logprobs)];
    return c.json({ ...base(form.objects.whole), choices, usage: usageOf(result) });
  }

  const first = await pieces.next();
  const head = base(form.objects.chunk);
  const withUsage = includeUsage ? { usage: null } : {};
  const chunk = (choice: object) => ({ ...head, choices: [choice], ...withUsage });
  return eventStream(c, async (send) => {
    try {
      if (form.opening) send(chunk(form.opening));
      let next = first;
      let offset = 0;
      for (; !next.done; next = await pieces.next()) {
        const { text, logprobs } = next.value;
        send(chunk(form.piece(text, logprobs ? form.logprobs(logprobs, offset) : null)));
        for (const token of logprobs ?? []) offset += token.text.length;
      }
      send(chunk(form.closing(reasonOf(next.value))));
      if (includeUsage) send({ ...head, choices: [], usage: usageOf(next.value) });
      return 'done';
    } catch (thrown) {
      const error = toApiError(thrown, report);
      entry.status = error.status;
      entry.code = error.code;
      send(errorBody(error));
      return 'failed';
    }
  });
}

/** A full context is a length, too. */
const reasonOf = ({ finish }: ReplyResult): FinishReason => (finish === 'stop' ? 'stop' : 'length');

function usageOf({ usage: { prompt, cached, completion } }: ReplyResult) {
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: cached },
  };
}
