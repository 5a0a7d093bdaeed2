// A reply as the answer to its request: whole, or as a stream of events.

import type { ChosenLogprob, Reply, ReplyResult } from '../runtime/reply.ts';
import { ApiError, toApiError } from './api-error.ts';
import { eventStream } from './events.ts';
import { gather } from './gather.ts';
import { inParams, type OptionPath } from './option-error.ts';
import type { ApiContext } from './requests.ts';
import type { Said, ServedModel, Service } from './service.ts';

/** A call of a function, as far as it was made. */
export interface WrittenCall {
  readonly id: string;
  readonly name: string;
  /** JSON; a part of it where the reply was cut. */
  readonly arguments: string;
}

/** How an answer ended. */
export interface Ending {
  readonly reason: 'stop' | 'length' | 'tool_calls';
  readonly usage: ReplyResult['usage'];
}

/** What was said, all of it. */
export interface Answer extends Ending {
  readonly text: string;
  readonly logprobs: readonly ChosenLogprob[] | null;
  readonly calls: readonly WrittenCall[];
}

/** What an answer says of itself. */
export interface AnswerFacts {
  readonly id: string;
  /** Seconds since 1970. */
  readonly created: number;
  readonly model: string;
  readonly fingerprint: string;
}

/** How an endpoint words a reply. */
export interface Form {
  whole(facts: AnswerFacts, answer: Answer): object;
  stream(facts: AnswerFacts): Telling;
}

/** The events of a stream. */
export interface Telling {
  /** Before the first text. */
  readonly opening: readonly object[];
  piece(said: Said): readonly object[];
  closing(ending: Ending): readonly object[];
  failed(error: ApiError): object;
  /** Whether events have names, their types; if not, [DONE] ends them. */
  readonly named: boolean;
}

export interface Asked {
  readonly stream: boolean;
  readonly form: Form;
  /** The parameter of the request that an option of the library comes from. */
  paramOf(option: OptionPath): OptionPath;
  start(model: ServedModel, signal: AbortSignal): Reply;
}

/** Waits for its turn and for the first text before anything is sent: what fails until then has a status of its own. */
export async function answerReply(
  c: ApiContext,
  service: Service,
  report: (error: unknown) => void,
  { stream, form, paramOf, start }: Asked,
): Promise<Response> {
  const entry = c.get('entry');
  const { manifest, embeds } = service.model();
  if (embeds) {
    const message = 'this server makes embeddings, and no replies: gen serve without --embeddings does';
    throw new ApiError(400, message, { code: 'unsupported_endpoint' });
  }
  const facts: AnswerFacts = {
    id: entry.id,
    created: Math.floor(Date.now() / 1000),
    model: service.name,
    fingerprint: `fp_${manifest.hash.slice(0, 12)}`,
  };
  const said = service.reply(start, {
    signal: c.req.raw.signal,
    tell: (told) => {
      entry.reply = told;
    },
  });
  const pieces = namingParams(said, paramOf);
  const first = await pieces.next();
  if (!stream) {
    const calls: WrittenCall[] = [];
    let next = first;
    for (; !next.done; next = await pieces.next()) addCalls(calls, next.value);
    const { text, logprobs = null } = next.value;
    return c.json(form.whole(facts, { text, logprobs, calls, ...endingOf(next.value) }));
  }

  const telling = form.stream(facts);
  return eventStream(c, telling.named, report, async ({ send, isFull }) => {
    const gathered = gather((one) => {
      for (const event of telling.piece(one)) send(event);
    });
    try {
      for (const event of telling.opening) send(event);
      let next = first;
      for (; !next.done; next = await pieces.next()) {
        gathered.take(next.value);
        if (isFull()) await pieces.throw(unread());
      }
      gathered.flush();
      for (const event of telling.closing(endingOf(next.value))) send(event);
      return 'done';
    } catch (thrown) {
      gathered.flush();
      const error = toApiError(thrown, report);
      entry.status = error.status;
      entry.code = error.code;
      send(telling.failed(error));
      return 'failed';
    }
  });
}

/** The same pieces. An option that the library refuses is a parameter of the request. */
async function* namingParams(
  pieces: AsyncGenerator<Said, ReplyResult, undefined>,
  paramOf: Asked['paramOf'],
): AsyncGenerator<Said, ReplyResult, undefined> {
  try {
    return yield* pieces;
  } catch (error) {
    throw inParams(error, paramOf);
  }
}

function addCalls(calls: WrittenCall[], { toolCalls = [] }: Said): void {
  for (const { index, id, name, arguments: part } of toolCalls) {
    const { arguments: before, ...call } = calls[index] ?? { id: id!, name: name!, arguments: '' };
    calls[index] = { ...call, arguments: before + part };
  }
}

const unread = () =>
  new ApiError(499, 'the reply was ended: too much of it is unread', { code: 'reply_unread' });

/** A full context is a length, too. */
const endingOf = ({ finish, usage }: ReplyResult): Ending => ({
  reason: finish === 'stop' || finish === 'tool_calls' ? finish : 'length',
  usage,
});
