// A sequence of the KV cache: fed, continued and scored, one job at a time; those of different sequences share their passes.

import { allocated } from '../../errors.ts';
import { check, checkInteger, type TokenIds, tokenArray, usage } from './arguments.ts';
import {
  abiStatus,
  type EngineHandle,
  type Functions,
  type GenerateArgs,
  jobState,
  type ScoreArgs,
} from './bindings.ts';
import type { Jobs, Lane } from './jobs.ts';
import {
  type GenerateOptions,
  type GenerateResult,
  type Logprob,
  type LogprobsOptions,
  type OnPrompt,
  readGenerateOptions,
  readOptions,
  type TokenLogprobs,
} from './options.ts';
import { type Foreseen, feedMasks } from './token-masks.ts';
import { tokenStream } from './token-stream.ts';
import type { Turn } from './turn.ts';

/** Logits of some tokens: rows [n][vocab], valid during the call only, the first of them that of ids[token]. */
export type OnRows = (rows: Float32Array, token: number) => void | Promise<void>;

export interface Abortable {
  readonly signal?: AbortSignal | undefined;
}

/** The functions of the library that work on one sequence. */
export interface SequenceLane extends Lane {
  /** Its number in the library; -1: that of an engine's own jobs. */
  readonly slot: number;
  generate(functions: Functions, engine: EngineHandle, args: GenerateArgs): number;
  /** Of the tokens polled last: ids and values [tokens][1 + top]. */
  logprobs(functions: Functions, engine: EngineHandle, ids: Int32Array, values: Float32Array): number;
  mask(functions: Functions, engine: EngineHandle, words: Int32Array | null, expects: boolean): number;
  expect(functions: Functions, engine: EngineHandle, foreseen: Foreseen): number;
  score(functions: Functions, engine: EngineHandle, args: ScoreArgs): number;
  logits(functions: Functions, engine: EngineHandle, out: Float32Array, rows: number): number;
  reset(functions: Functions, engine: EngineHandle, length: number): number;
  /** Gives the sequence back. */
  close(functions: Functions, engine: EngineHandle): number;
}

/** One of several sequences of an engine, made by its `open`: its jobs run beside those of others, and know nothing of them.
 *  Close it, or declare it with `await using`. */
export class Sequence {
  /** Floats of one logits row. */
  readonly vocab: number;
  /** Positions it has room for. */
  readonly context: number;
  readonly #jobs: Jobs;
  readonly #lane: SequenceLane;
  readonly #turn: Turn;
  #closing: Promise<void> | undefined;

  constructor(
    jobs: Jobs,
    lane: SequenceLane,
    { vocab, context }: { readonly vocab: number; readonly context: number },
    turn: Turn,
  ) {
    this.#jobs = jobs;
    this.#lane = lane;
    this.vocab = vocab;
    this.context = context;
    this.#turn = turn;
  }

  /** Its number among those of its engine.
   *  @throws OnelaunchError when it is closed: another may have that number */
  get slot(): number {
    this.#turn.checkOpen();
    return this.#lane.slot;
  }

  /** Positions in its part of the KV cache: tokens whose keys and values are computed. The last token of a reply is not among them. */
  get position(): number {
    return this.#lane.position;
  }

  /** Feeds ids at the current position, without a reply.
   *  @throws OnelaunchError; the signal's reason when aborted */
  async append(ids: TokenIds, options: Abortable = {}): Promise<void> {
    await this.scoreRows(ids, ids.length, () => {}, options);
  }

  /** Feeds ids at the current position and yields the tokens of the reply, in batches as they come.
   *  Breaking out of the loop stops the reply. The last token yielded is not fed: a next prompt begins with it.
   *  @throws OnelaunchError, also when another job runs or the engine is closed meanwhile */
  async *generate(ids: TokenIds, options: GenerateOptions): AsyncGenerator<number[], GenerateResult> {
    const { maxTokens, stops, sampling, drafts, bias, logprobs, mask, onPrompt, signal } =
      readGenerateOptions(options, this.vocab);
    const prompt = tokenArray('ids', ids, this.vocab);
    check(prompt.length > 0, 'ids is empty');
    const args = {
      ids: prompt,
      count: prompt.length,
      max_tokens: maxTokens,
      stop_ids: stops,
      stop_count: stops.length,
      ...drafts,
      ...bias,
      top_logprobs: logprobs?.top ?? -1,
      masked: mask === undefined ? 0 : 1,
      sampling,
    };
    this.#turn.take();
    const stop = () => this.#jobs.stop(this.#lane);
    const call = (tell: (functions: Functions, engine: EngineHandle) => number) => {
      if (!this.#jobs.closed) this.#jobs.call(tell);
    };
    const masks =
      mask &&
      feedMasks(mask, drafts.draft_tokens !== 0, {
        give: (words, expects) => call((f, engine) => this.#lane.mask(f, engine, words, expects)),
        expect: (foreseen) => call((f, engine) => this.#lane.expect(f, engine, foreseen)),
        stop,
      });
    const tell = onPrompt && promptProgress(this.position, prompt.length, onPrompt);
    try {
      const begin = (onTokens: (tokens: Int32Array) => void) => {
        const ended = this.#jobs.run((f, engine) => this.#lane.generate(f, engine, args), {
          lane: this.#lane,
          signal,
          abortIsEnd: true,
          isAwaited: masks !== undefined,
          onPoll: (progress, tokens) => {
            tell?.(progress.position);
            if (logprobs !== undefined) this.#tellLogprobs(tokens.length, logprobs);
            for (const token of tokens) masks?.push(token);
            // Whoever reads may do so much later, when its place has another's reply.
            if (progress.state !== jobState.running) masks?.end();
            onTokens(tokens);
          },
        });
        if (!signal?.aborted) masks?.push(null);
        return ended;
      };
      const result = yield* tokenStream(begin, stop);
      const isComplete = await masks?.completed(result.finish === 'abort', signal);
      return isComplete ? { ...result, finish: 'stop' } : result;
    } finally {
      masks?.end();
      this.#turn.leave();
    }
  }

  /** Hands over the log probabilities of the tokens that were polled last. */
  #tellLogprobs(tokens: number, { top, onLogprobs }: LogprobsOptions): void {
    if (tokens === 0) return;
    const each = 1 + Math.min(top, this.vocab);
    const ids = new Int32Array(tokens * each);
    const values = new Float32Array(tokens * each);
    this.#jobs.call((f, engine) => this.#lane.logprobs(f, engine, ids, values));
    const told = Array.from({ length: tokens }, (_, i): TokenLogprobs => {
      const [token, ...others] = Array.from({ length: each }, (_, j): Logprob => {
        const at = i * each + j;
        return { token: ids[at]!, logprob: values[at]! };
      });
      return { ...token!, top: others };
    });
    onLogprobs(told);
  }

  /** Logits [ids.length - first][vocab] of ids[first] and those after it, fed at the current position.
   *  @throws OnelaunchError; the signal's reason when aborted */
  async score(ids: TokenIds, first: number, options: Abortable = {}): Promise<Float32Array> {
    const tokens = tokenArray('ids', ids, this.vocab);
    checkInteger('first', first, 0, tokens.length);
    const size = (tokens.length - first) * this.vocab;
    if (size > maxScoreFloats) {
      throw usage(
        `${tokens.length - first} rows of ${this.vocab} logits do not fit into one array`,
        'use scoreRows',
      );
    }
    const logits = allocated(size * 4, 'the scores', () => new Float32Array(size));
    let filled = 0;
    const place = (rows: Float32Array) => {
      logits.set(rows, filled);
      filled += rows.length;
    };
    await this.scoreRows(tokens, first, place, options);
    return logits;
  }

  /** Like score, with the rows handed over block by block: at most 64 MB of them exist at a time. */
  async scoreRows(ids: TokenIds, first: number, onRows: OnRows, options: Abortable = {}): Promise<void> {
    const { signal } = readOptions(options);
    const tokens = tokenArray('ids', ids, this.vocab);
    checkInteger('first', first, 0, tokens.length);
    check(tokens.length > 0, 'ids is empty');
    check(typeof onRows === 'function', 'onRows is not a function');
    if (!this.#jobs.closed && this.position + tokens.length > this.context) {
      throw usage(
        `${tokens.length} tokens do not fit: ${this.position} of ${this.context} positions are in use`,
      );
    }
    const blockRows = Math.max(1, Math.floor(scoreBlockBytes / (this.vocab * 4)));
    const size = Math.min(blockRows, Math.max(1, tokens.length - first)) * this.vocab;
    const buffer = allocated(size * 4, 'a block of scores', () => new Float32Array(size));
    await this.#turn.during(async () => {
      for (let at = 0; at < tokens.length; ) {
        const begin = Math.max(at, first);
        const end = Math.min(tokens.length, begin + blockRows);
        const args = {
          ids: tokens.subarray(at, end),
          count: end - at,
          first: begin - at,
        };
        await this.#jobs.run((f, engine) => this.#lane.score(f, engine, args), { lane: this.#lane, signal });
        const rows = end - begin;
        if (rows > 0) {
          this.#jobs.call((f, engine) => this.#lane.logits(f, engine, buffer, rows));
          await onRows(buffer.subarray(0, rows * this.vocab), begin);
        }
        at = end;
      }
    });
  }

  /** Forgets all positions from `length` on.
   *  @throws OnelaunchError when a job runs or there are fewer */
  reset(length = 0): void {
    checkInteger('length', length, 0, this.position);
    this.#turn.take();
    this.#turn.leave();
    this.#jobs.call((f, engine) => this.#lane.reset(f, engine, length));
    this.#lane.position = length;
  }

  /** Takes the first `length` positions of another sequence of the same engine in place of its own: a copy, which takes no pass. The other
   *  may have a job that runs.
   *  @throws OnelaunchError when a job of this one runs, or the other has fewer */
  copyFrom(source: Pick<Sequence, 'slot' | 'position'>, length: number): void {
    checkInteger('length', length, 0, source.position);
    this.#turn.take();
    this.#turn.leave();
    this.#jobs.call((f, engine) => f.ol_sequence_copy(engine, this.slot, source.slot, length));
    this.#lane.position = length;
  }

  /** Bytes that readCache and writeCache have for a position. */
  cacheBytes(): number {
    let bytes = 0;
    this.#jobs.call((f, engine) => {
      bytes = Number(f.ol_cache_bytes(engine));
      return abiStatus.ok;
    });
    return bytes;
  }

  /** Keys and values of `count` positions: [count * cacheBytes()] bytes that only an engine of the same library can read.
   *  @throws OnelaunchError when there are fewer, or the engine's own sequence has a job */
  readCache(position: number, count: number): Uint8Array {
    checkInteger('position', position, 0, this.position);
    checkInteger('count', count, 0, this.position - position);
    const size = count * this.cacheBytes();
    const bytes = allocated(size, 'a copy of the KV cache', () => new Uint8Array(size));
    // An array without bytes has no address.
    if (size > 0) this.#jobs.call((f, engine) => f.ol_cache_read(engine, this.slot, position, count, bytes));
    return bytes;
  }

  /** Appends what readCache has given for these tokens at the same positions.
   *  @throws OnelaunchError when a job runs, they do not fit, or the bytes are not as many */
  writeCache(ids: TokenIds, bytes: Uint8Array): void {
    const tokens = tokenArray('ids', ids, this.vocab);
    const wanted = tokens.length * this.cacheBytes();
    check(bytes.length === wanted, `${tokens.length} positions have ${wanted} bytes, not ${bytes.length}`);
    this.#turn.take();
    this.#turn.leave();
    if (tokens.length === 0) return;
    this.#jobs.call((f, engine) => f.ol_cache_write(engine, this.slot, tokens, tokens.length, bytes));
    this.#lane.position += tokens.length;
  }

  /** Ends the job that runs, a reply with finish 'abort' whether or not it is read on, and gives the place in the cache back.
   *  Resolves when that is done, however often it is called. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#turn.end();
    await this.#jobs.ended(this.#lane);
    if (!this.#jobs.closed) this.#jobs.call((f, engine) => this.#lane.close(f, engine));
  }
}

/** Tells of a position what it says of a prompt, where that is more than before. @param begin position of its first token */
function promptProgress(begin: number, total: number, onPrompt: OnPrompt): (position: number) => void {
  let told = 0;
  return (position) => {
    const done = Math.min(position - begin, total);
    if (done <= told) return;
    told = done;
    onPrompt(done, total);
  };
}

/** Of ol_expect: tokens [count], and words [count][width] behind them. */
function expectArguments({ tokens, masks }: Foreseen): [Int32Array, number, Int32Array, number] {
  const width = masks[0]?.length ?? 0;
  const words = new Int32Array(masks.length * width);
  for (const [i, mask] of masks.entries()) words.set(mask, i * width);
  return [Int32Array.from(tokens), tokens.length, words, width];
}

/** The functions that work on the sequence of an engine's own jobs. */
export const ownLane = (): SequenceLane => ({
  slot: -1,
  position: 0,
  poll: (f, engine, progress, tokens) => f.ol_poll(engine, progress, tokens, tokens.length),
  stop: (f, engine) => f.ol_stop(engine),
  generate: (f, engine, args) => f.ol_generate(engine, args),
  logprobs: (f, engine, ids, values) => f.ol_logprobs(engine, ids, values, ids.length),
  mask: (f, engine, words, expects) => f.ol_mask(engine, words, words?.length ?? 0, expects ? 1 : 0),
  expect: (f, engine, foreseen) => f.ol_expect(engine, ...expectArguments(foreseen)),
  score: (f, engine, args) => f.ol_score(engine, args),
  logits: (f, engine, out, rows) => f.ol_logits(engine, out, rows),
  reset: (f, engine, length) => f.ol_reset(engine, length),
  close: () => abiStatus.ok,
});

/** Those that work on an open sequence. */
export const laneOf = (slot: number): SequenceLane => ({
  slot,
  position: 0,
  poll: (f, engine, progress, tokens) => f.ol_sequence_poll(engine, slot, progress, tokens, tokens.length),
  stop: (f, engine) => f.ol_sequence_stop(engine, slot),
  generate: (f, engine, args) => f.ol_sequence_generate(engine, slot, args),
  logprobs: (f, engine, ids, values) => f.ol_sequence_logprobs(engine, slot, ids, values, ids.length),
  mask: (f, engine, words, expects) =>
    f.ol_sequence_mask(engine, slot, words, words?.length ?? 0, expects ? 1 : 0),
  expect: (f, engine, foreseen) => f.ol_sequence_expect(engine, slot, ...expectArguments(foreseen)),
  score: (f, engine, args) => f.ol_sequence_score(engine, slot, args),
  logits: (f, engine, out, rows) => f.ol_sequence_logits(engine, slot, out, rows),
  reset: (f, engine, length) => f.ol_sequence_reset(engine, slot, length),
  close: (f, engine) => f.ol_sequence_close(engine, slot),
});

/** Most bytes of logits that scoreRows holds. */
const scoreBlockBytes = 64 << 20;
/** Most floats that score returns: 4 GB. */
const maxScoreFloats = 2 ** 30;
