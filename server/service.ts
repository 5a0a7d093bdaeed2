// A model that many ask: whose turn it is, how long a reply may take, and how all of it ends.
import type { ChatMessage } from '../runtime/chat/chat-template.ts';
import type { ToolCallPart } from '../runtime/chat/tool-reader.ts';
import type { LanguageModel } from '../runtime/model.ts';
import type { ChosenLogprob, Reply, ReplyResult } from '../runtime/reply.ts';
import type { ReplyOptions } from '../runtime/sampling.ts';
import { ApiError } from './api-error.ts';
import { createMetrics, type Metrics, type ReplyTimes, type TurnTimes } from './metrics.ts';
import { clientLeft, RequestQueue } from './queue.ts';

/** What a server needs of a model. */
export type ServedModel = Pick<
  LanguageModel,
  'context' | 'parallel' | 'manifest' | 'embeds' | 'embed' | 'tokenizeApart' | 'detokenizeApart' | 'close'
> & {
  chat(messages: readonly ChatMessage[], options?: ReplyOptions): Reply;
  complete(text: string, options?: ReplyOptions): Reply;
  generate(tokenIds: readonly number[], options?: ReplyOptions): Reply;
};

export interface ServiceOptions {
  /** The name that requests give. */
  readonly name: string;
  /** Most requests that wait. */
  readonly queue: number;
  /** Longest wait for a place [ms]. */
  readonly queueMillis: number;
  /** Longest reply, from its place on [ms]. */
  readonly replyMillis: number;
}

export type State = 'loading' | 'ready' | 'draining';

/** Facts of a reply for the log; nothing of what was said. */
export interface ReplyFacts extends ReplyTimes {
  readonly prompt: number;
  readonly cached: number;
  readonly completion: number;
  readonly finish: string;
}

/** Part of a reply; log probabilities where they were asked for, calls of functions where there are some. */
export interface Said {
  readonly text: string;
  readonly toolCalls: readonly ToolCallPart[] | undefined;
  readonly logprobs: readonly ChosenLogprob[] | undefined;
}

export class Service {
  readonly name: string;
  readonly queue: RequestQueue;
  readonly metrics: Metrics;
  /** When it began [s since 1970]: the model's `created`. */
  readonly created: number = Math.floor(Date.now() / 1000);
  readonly #replyMillis: number;
  /** Ends each reply that runs. */
  readonly #ends = new Set<(why: ApiError) => void>();
  #model: ServedModel | undefined;
  #draining = false;

  constructor({ name, queue, queueMillis, replyMillis }: ServiceOptions) {
    this.name = name;
    this.queue = new RequestQueue({ capacity: queue, waitMillis: queueMillis });
    this.metrics = createMetrics(name, this.queue);
    this.#replyMillis = replyMillis;
  }

  get state(): State {
    if (this.#draining) return 'draining';
    return this.#model === undefined ? 'loading' : 'ready';
  }

  ready(model: ServedModel): void {
    this.queue.places = model.parallel;
    this.#model = model;
  }

  /** The model. @throws ApiError 503 while it is loaded, and when no more requests are taken */
  model(): ServedModel {
    if (this.#draining) throw shuttingDown();
    if (this.#model === undefined)
      throw new ApiError(503, 'the model is being loaded', { code: 'model_loading' });
    return this.#model;
  }

  /** Takes no more requests. Resolves when those that were taken have their replies. */
  drain(): Promise<void> {
    this.#draining = true;
    return this.queue.idle();
  }

  /** Ends all requests, those that run within a token, and says how many there were. */
  cut(): number {
    const cut = this.queue.running + this.queue.waiting;
    this.queue.refuse(shuttingDown());
    for (const end of [...this.#ends]) end(shuttingDown());
    return cut;
  }

  /** What a reply says, when it is this request's turn. Its place is free as soon as this has ended, in whichever way.
   *  @param signal aborted when the client leaves
   *  @param tell gets the facts of a reply that began, before this ends
   *  @throws ApiError, and what the model throws */
  async *reply(
    start: (model: ServedModel, signal: AbortSignal) => Reply,
    { signal, tell }: { readonly signal: AbortSignal; readonly tell: (facts: ReplyFacts) => void },
  ): AsyncGenerator<Said, ReplyResult, undefined> {
    const arrived = performance.now();
    const turn = await this.#enter(signal);
    const begun = performance.now();
    let first: number | null = null;
    let last = 0;
    try {
      const reply = start(turn.model, turn.signal);
      try {
        for await (const { text, tokens, logprobs, toolCalls } of reply) {
          const now = performance.now();
          // Those of a batch came together: each took its share of the time.
          if (first !== null) for (const _ of tokens) this.metrics.nextToken((now - last) / tokens.length);
          if (tokens.length > 0) {
            first ??= now - arrived;
            last = now;
          }
          const hasMore = toolCalls !== undefined || (logprobs && logprobs.length > 0);
          if (text !== '' || hasMore) yield { text, logprobs, toolCalls };
        }
      } finally {
        const result = await reply.result().catch(() => undefined);
        if (result !== undefined) {
          const queuedMs = begun - arrived;
          const times = { queuedMs, firstTokenMs: first, totalMs: performance.now() - arrived };
          this.metrics.reply(result, times);
          const { prompt, cached, completion } = result.usage;
          tell({ prompt, cached, completion, finish: result.finish, ...times });
        }
      }
      const result = await reply.result();
      if (result.finish === 'abort') throw turn.why();
      return result;
    } finally {
      turn.leave();
    }
  }

  /** What a work makes, when it is this request's turn, and what it took. @param signal aborted when the client leaves
   *  @throws ApiError, and what the work throws */
  async turn<T>(
    signal: AbortSignal,
    work: (model: ServedModel, signal: AbortSignal) => Promise<T>,
  ): Promise<{ readonly made: T; readonly times: TurnTimes }> {
    const arrived = performance.now();
    const turn = await this.#enter(signal);
    const queuedMs = performance.now() - arrived;
    try {
      const made = await work(turn.model, turn.signal);
      return { made, times: { queuedMs, totalMs: performance.now() - arrived } };
    } catch (error) {
      throw turn.signal.aborted ? turn.why() : error;
    } finally {
      turn.leave();
    }
  }

  /** Waits for a place. Its signal is aborted when the client leaves, the time is over, or the server ends. */
  async #enter(signal: AbortSignal) {
    const model = this.model();
    const leave = await this.queue.enter(signal);
    const stop = new AbortController();
    let why: ApiError | undefined;
    const end = (error: ApiError) => {
      why ??= error;
      stop.abort();
    };
    const gone = () => end(clientLeft());
    const limit = this.#replyMillis;
    const late = () =>
      end(new ApiError(504, `the reply took longer than ${limit / 1000} s`, { code: 'reply_timeout' }));
    const timer = setTimeout(late, limit);
    signal.addEventListener('abort', gone);
    this.#ends.add(end);
    return {
      ...{ model, signal: stop.signal },
      /** Why it was ended. */
      why: () => why ?? shuttingDown(),
      leave: () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', gone);
        this.#ends.delete(end);
        leave();
      },
    };
  }
}

const shuttingDown = () => new ApiError(503, 'the server is shutting down', { code: 'shutting_down' });
