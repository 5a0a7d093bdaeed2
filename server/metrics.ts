// What a server counts, under vLLM's names where vLLM counts the same.
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { ReplyResult } from '../runtime/reply.ts';
import type { RequestQueue } from './queue.ts';

/** Bounds of times [s] and of tokens. */
const seconds = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600];
const betweenTokens = [0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1];
const tokens = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000];

/** As vLLM counts them. */
const reasons = {
  stop: 'stop',
  tool_calls: 'stop',
  length: 'length',
  context: 'length',
  abort: 'abort',
} as const;

/** Times of a request that had its turn [ms]. */
export interface TurnTimes {
  readonly queuedMs: number;
  readonly totalMs: number;
}

/** Times of a reply [ms]. */
export interface ReplyTimes extends TurnTimes {
  /** From the request's arrival; null without a token. */
  readonly firstTokenMs: number | null;
}

export type Metrics = ReturnType<typeof createMetrics>;

/** A registry of its own: two servers of a process do not share one. */
export function createMetrics(model: string, queue: Pick<RequestQueue, 'running' | 'waiting'>) {
  const registry = new Registry();
  const shared = { registers: [registry], labelNames: ['model_name'] };
  const label = { model_name: model };
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      ...shared,
      ...{ name, help },
      collect() {
        this.set(label, read());
      },
    });
  const counter = (name: string, help: string) => {
    const made = new Counter({ ...shared, ...{ name, help } });
    made.inc(label, 0);
    return (amount: number) => made.inc(label, amount);
  };
  const histogram = (name: string, help: string, buckets: readonly number[]) => {
    const made = new Histogram({ ...shared, ...{ name, help, buckets: [...buckets] } });
    return (value: number) => made.observe(label, value);
  };

  gauge('vllm:num_requests_running', 'Requests that are replied to.', () => queue.running);
  gauge('vllm:num_requests_waiting', 'Requests that wait for a place.', () => queue.waiting);
  const promptTokens = counter(
    'vllm:prompt_tokens_total',
    'Tokens of prompts, those of the KV cache included.',
  );
  const generated = counter('vllm:generation_tokens_total', 'Tokens of replies.');
  const queried = counter(
    'vllm:prefix_cache_queries_total',
    'Tokens of prompts that were looked for in the KV cache.',
  );
  const found = counter('vllm:prefix_cache_hits_total', 'Those that the KV cache still held.');
  const firstToken = histogram('vllm:time_to_first_token_seconds', 'From the arrival of a request.', seconds);
  const nextToken = histogram(
    'vllm:inter_token_latency_seconds',
    'Between tokens of a reply.',
    betweenTokens,
  );
  const whole = histogram(
    'vllm:e2e_request_latency_seconds',
    'From the arrival of a request to the end of its reply.',
    seconds,
  );
  const queued = histogram(
    'vllm:request_queue_time_seconds',
    'From the arrival of a request to its place.',
    seconds,
  );
  const prefill = histogram('vllm:request_prefill_time_seconds', 'Of the engine, for a prompt.', seconds);
  const decode = histogram(
    'vllm:request_decode_time_seconds',
    'Of the engine, after the first token.',
    seconds,
  );
  const promptSize = histogram('vllm:request_prompt_tokens', 'Tokens of a prompt.', tokens);
  const replySize = histogram('vllm:request_generation_tokens', 'Tokens of a reply.', tokens);
  const ended = new Counter({
    name: 'vllm:request_success_total',
    help: 'Replies by how they ended; embeddings end with stop.',
    ...{ registers: [registry], labelNames: ['model_name', 'finished_reason'] },
  });
  const refused = new Counter({
    name: 'onelaunch:requests_failed_total',
    help: 'Requests that were not replied to, by status; 499: the client left.',
    ...{ registers: [registry], labelNames: ['model_name', 'status'] },
  });
  collectDefaultMetrics({ register: registry });

  const ends = (reason: keyof typeof reasons, { queuedMs, totalMs }: TurnTimes) => {
    queued(queuedMs / 1000);
    whole(totalMs / 1000);
    ended.inc({ ...label, finished_reason: reasons[reason] });
  };
  return {
    registry,
    nextToken: (millis: number) => nextToken(millis / 1000),
    /** A reply came to an end, be it an early one. */
    reply: ({ usage, finish, timings }: ReplyResult, times: ReplyTimes) => {
      promptTokens(usage.prompt);
      queried(usage.prompt);
      found(usage.cached);
      generated(usage.completion);
      promptSize(usage.prompt);
      replySize(usage.completion);
      if (times.firstTokenMs !== null) firstToken(times.firstTokenMs / 1000);
      prefill(timings.promptMs / 1000);
      decode(timings.decodeMs / 1000);
      ends(finish, times);
    },
    /** Vectors were made. @param sizes tokens of each text */
    embedded: (sizes: readonly number[], times: TurnTimes) => {
      for (const size of sizes) {
        promptTokens(size);
        promptSize(size);
      }
      ends('stop', times);
    },
    failed: (status: number) => refused.inc({ ...label, status: String(status) }),
  };
}
