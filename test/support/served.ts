// A server around a scripted engine: each token comes when the test lets it, and every call is written down.
import { join } from 'node:path';
import type { Hono } from 'hono';
import type { Manifest } from '../../abi/manifest.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { OnelaunchError } from '../../errors.ts';
import { chatTemplate } from '../../runtime/chat/chat-template.ts';
import type { Pooling } from '../../runtime/embedding.ts';
import type { Sampling } from '../../runtime/engine/bindings.ts';
import type { GenerateOptions, LogitBias, TokenLogprobs } from '../../runtime/engine/options.ts';
import { readGenerationConfig } from '../../runtime/generation-config.ts';
import { LanguageModel, type ReplyEngine } from '../../runtime/model.ts';
import type { PlaceEngine } from '../../runtime/places.ts';
import { loadTokenizer } from '../../runtime/tokenizer/tokenizer.ts';
import { type AppOptions, createApp } from '../../server/app.ts';
import type { Env } from '../../server/requests.ts';
import { Service, type ServiceOptions } from '../../server/service.ts';
import { makeDirectory } from './model-directory.ts';
import { until as untilSo } from './within.ts';

const directory = join(packageRoot(), 'models', 'qwen3-tiny');
export const tokenizer = loadTokenizer(directory);
const defaults = readGenerationConfig(directory, { tokenizer });
const imEnd = tokenizer.idOf('<|im_end|>')!;

interface Call {
  readonly prompt: string;
  readonly maxTokens: number;
  readonly sampling: Sampling;
  readonly bias: LogitBias | undefined;
}

/** The log probability that the script gives a token, and to those behind it. */
export const logprobOf = (id: number): number => -Math.fround(20 * ((id * 0.618_034) % 1));
const toldOf = (id: number, top: number): TokenLogprobs => ({
  ...{ token: id, logprob: logprobOf(id) },
  top: Array.from({ length: top }, (_, i) => ({ token: id + 1 + i, logprob: logprobOf(id + 1 + i) })),
});

export class SteppedEngine {
  readonly device = 'a script';
  readonly context: number;
  position = 0;
  /** Tokens that were made, of all replies. */
  made = 0;
  readonly calls: Call[] = [];
  /** Thrown at the first token. */
  failure: Error | undefined;
  #script: readonly number[] = [];
  /** Tokens that may be made; then the engine waits. */
  #allowed = Number.POSITIVE_INFINITY;
  #held: (() => void) | undefined;

  constructor(text: string, context: number) {
    this.says(text);
    this.context = context;
  }

  /** The text of every reply from here on. */
  says(text: string): void {
    this.#script = tokenizer.encode(text);
  }

  /** So many tokens more, and then none until this is called again. */
  allow(tokens: number): void {
    this.#allowed = tokens;
    this.#held?.();
  }

  async *generate(
    ids: readonly number[],
    options: GenerateOptions,
  ): AsyncGenerator<readonly number[], object> {
    const { maxTokens, signal, bias, logprobs, mask } = options;
    this.calls.push({ prompt: tokenizer.decode(ids), maxTokens, sampling: options.sampling!, bias });
    this.position += ids.length;
    const end = (finish: string) => ({
      ...{ finish, drafted: 0, accepted: 0, timings: { prefillMs: 2, decodeMs: 10 } },
    });
    let allowed = (await mask?.next([])) ?? null;
    for (let i = 0; ; i++) {
      await this.#turn(signal);
      if (signal?.aborted) return end('abort');
      if (this.failure) throw this.failure;
      if (allowed === 'end') return end('stop');
      if (allowed === 'abort') return end('abort');
      const id = this.#script[i] ?? imEnd;
      if (allowed !== null && ((allowed[id >> 5]! >> (id & 31)) & 1) === 0) {
        throw new Error(`the mask forbids ${JSON.stringify(Buffer.from(tokenizer.bytes(id)).toString())}`);
      }
      if (i > 0) this.position++;
      this.made++;
      if (logprobs) logprobs.onLogprobs([toldOf(id, logprobs.top)]);
      yield [id];
      if (id === imEnd) return end('stop');
      allowed = (await mask?.next([id])) ?? null;
      if (i + 1 >= maxTokens) return end('length');
    }
  }

  async #turn(signal: AbortSignal | undefined): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    while (this.#allowed <= 0 && !signal?.aborted) {
      await new Promise<void>((resolve) => {
        this.#held = resolve;
        signal?.addEventListener('abort', () => resolve(), { once: true });
      });
    }
    this.#allowed--;
  }

  reset(length = 0): void {
    this.position = length;
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

interface Served {
  readonly engine: SteppedEngine;
  /** Of the second place. */
  readonly other: SteppedEngine;
  readonly llm: LanguageModel;
  readonly service: Service;
  readonly app: Hono<Env>;
  /** What was logged, a line each. */
  readonly lines: Record<string, unknown>[];
  /** What was reported as a mistake of ours. */
  readonly reported: unknown[];
}

/** @param options of the service and of the app, and the text of every reply */
export function served(
  options: Partial<ServiceOptions & AppOptions> & {
    readonly text?: string;
    readonly context?: number;
    readonly loaded?: boolean;
    /** Of the chat, in the place of the bundled model's. */
    readonly template?: string;
    /** Replies at a time, 1 or 2. */
    readonly parallel?: number;
    /** Of a model that makes embeddings. */
    readonly pooling?: Pooling;
  } = {},
): Served {
  const { text = 'A kernel is a nut.', context = 512, loaded = true, parallel = 1 } = options;
  const engine = new SteppedEngine(text, context);
  const manifest = { model: 'qwen3-tiny', hash: '0123456789abcdef', dims: { vocab: 4096 } } as Manifest;
  const other = new SteppedEngine(text, context);
  const both = [engine, other] as unknown as readonly PlaceEngine[];
  const llm = new LanguageModel({
    ...{ engine: engine as unknown as ReplyEngine, manifest, tokenizer, sequences: both.slice(0, parallel) },
    defaults,
    ...(options.pooling && { pooling: options.pooling }),
    template: () =>
      chatTemplate(
        options.template === undefined
          ? directory
          : makeDirectory({ 'chat_template.jinja': options.template }),
      ),
  });
  const service = new Service({
    ...{ name: 'qwen3-tiny', queue: 4, queueMillis: 60_000, replyMillis: 60_000 },
    ...options,
  });
  if (loaded) service.ready(llm);
  const lines: Record<string, unknown>[] = [];
  const reported: unknown[] = [];
  const app = createApp(service, {
    ...{ version: '1.2.3', page: '<p>page</p>', apiKey: null, localOnly: false, corsOrigins: [] },
    ...{ mostBodyBytes: null, log: (line) => lines.push(line as Record<string, unknown>) },
    report: (error) => reported.push(error),
    ...options,
  });
  return { engine, other, llm, service, app, lines, reported };
}

export const lost = () => new OnelaunchError('failed', 'attention: the device is lost');

/** A POST of JSON. */
export const post = (
  app: Hono<Env>,
  path: string,
  body: unknown,
  init: RequestInit = {},
): Promise<Response> =>
  Promise.resolve(
    app.request(path, {
      method: 'POST',
      body: typeof body === 'string' ? body : JSON.stringify(body),
      ...init,
      headers: { 'content-type': 'application/json', ...init.headers },
    }),
  );

export const chatBody = (more: object = {}) => ({
  model: 'qwen3-tiny',
  messages: [{ role: 'user', content: 'What is a kernel?' }],
  ...more,
});

/** The events of a stream, [DONE] as a text. */
export async function eventsOf(response: Response): Promise<unknown[]> {
  const text = await response.text();
  return text
    .split('\n\n')
    .filter((part) => part !== '')
    .map((part) => part.replace(/^data: /, ''))
    .map((data) => (data === '[DONE]' ? data : JSON.parse(data)));
}

/** Turns of the event loop, until something is so. */
export const until = (isSo: () => boolean): Promise<void> =>
  untilSo(
    isSo,
    () => `${isSo}`,
    () => new Promise((resolve) => setImmediate(resolve)),
  );
