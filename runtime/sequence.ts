// One of several sequences of an engine: tokens of its own, and replies that share their passes with those of others.
import { abiStatus, type GenerateArgs } from './bindings.ts';
import { check, checkInteger, type TokenIds, tokenArray, usage } from './engine-arguments.ts';
import { type GenerateOptions, type GenerateResult, readGenerateOptions } from './engine-options.ts';
import type { Jobs, Lane } from './jobs.ts';
import { tokenStream } from './token-stream.ts';

/** Passes of several sequences check no drafts. */
export type SequenceOptions = Omit<GenerateOptions, 'speculate'>;

/** Made by `open` of an engine. Close it, or declare it with `await using`. */
export class Sequence {
  readonly #jobs: Jobs;
  readonly #slot: number;
  readonly #lane: Lane;
  readonly #context: number;
  readonly #vocab: number;
  /** Tokens that the library has, and those that the next reply takes there. */
  #length = 0;
  #appended: readonly number[] = [];
  /** Settles with the reply that runs. */
  #running: Promise<unknown> | null = null;
  #closing: Promise<void> | null = null;

  constructor(jobs: Jobs, slot: number, context: number, vocab: number) {
    this.#jobs = jobs;
    this.#slot = slot;
    this.#context = context;
    this.#vocab = vocab;
    this.#lane = {
      poll: (f, engine, progress, tokens) =>
        f.ol_sequence_poll(engine, slot, progress, tokens, tokens.length),
      stop: (f, engine) => f.ol_sequence_stop(engine, slot),
    };
  }

  /** Its tokens: all that were appended, and all of its replies. */
  get length(): number {
    return this.#length + this.#appended.length;
  }

  /** Adds tokens, which the next reply feeds.
   *  @throws OnelaunchError of kind usage: tokens that do not fit, a reply that runs, a closed sequence */
  append(ids: TokenIds): void {
    const tokens = tokenArray('ids', ids, this.#vocab);
    this.#checkFree();
    if (this.length + tokens.length > this.#context) {
      throw usage(
        `${tokens.length} tokens do not fit: the sequence has ${this.length}, and room for ${this.#context}`,
      );
    }
    this.#appended = [...this.#appended, ...tokens];
  }

  /** Feeds what is new and yields the tokens of the reply, in batches as they come, with those of other sequences in the same passes.
   *  Breaking out of the loop stops this reply alone. Its tokens are the sequence's: a next reply goes on behind them.
   *  @throws OnelaunchError, also when it replies already, is empty, or is closed meanwhile */
  async *generate(options: SequenceOptions): AsyncGenerator<number[], GenerateResult> {
    const { maxTokens, stops, sampling, drafts, signal } = readGenerateOptions(options, this.#vocab);
    check(drafts.draft_tokens === 0, "speculate is not 'off': passes of several sequences check no drafts");
    this.#checkFree();
    check(this.length > 0, 'the sequence is empty: append tokens first');
    const ids = Int32Array.from(this.#appended);
    const args: GenerateArgs = {
      ids,
      count: ids.length,
      max_tokens: maxTokens,
      stop_ids: stops,
      stop_count: stops.length,
      ...drafts,
      sampling,
    };
    const begin = (onTokens: (tokens: Int32Array) => void) => {
      const done = this.#jobs.run(
        (f, engine) => this.#started(f.ol_sequence_generate(engine, this.#slot, args)),
        {
          signal,
          abortIsEnd: true,
          lane: this.#lane,
          onPoll: (_, tokens) => {
            this.#length += tokens.length;
            onTokens(tokens);
          },
        },
      );
      const free = () => {
        this.#running = null;
      };
      this.#running = done.then(free, free);
      return done;
    };
    return yield* tokenStream(begin, () => this.#jobs.stop(this.#lane));
  }

  /** Forgets its tokens from `length` on. @throws OnelaunchError when it replies, is closed, or has fewer */
  reset(length = 0): void {
    checkInteger('length', length, 0, this.length);
    this.#checkFree();
    const kept = Math.min(length, this.#length);
    this.#jobs.call((f, engine) => f.ol_sequence_reset(engine, this.#slot, kept));
    this.#appended = this.#appended.slice(0, length - kept);
    this.#length = kept;
  }

  /** Ends the reply that runs with finish 'abort', whether or not it is read on, and gives the place in the cache back.
   *  Resolves when that is done, however often it is called. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    if (this.#running !== null) {
      this.#jobs.stop(this.#lane);
      await this.#running;
    }
    if (!this.#jobs.closed) this.#jobs.call((f, engine) => f.ol_sequence_close(engine, this.#slot));
  }

  /** What was appended is the library's once a reply has begun. */
  #started(status: number): number {
    if (status === abiStatus.ok) {
      this.#length = this.length;
      this.#appended = [];
    }
    return status;
  }

  #checkFree(): void {
    if (this.#jobs.closed) throw usage('the engine is closed', 'load the model again');
    if (this.#closing !== null) throw usage('the sequence is closed', 'open another');
    if (this.#running !== null) {
      throw usage(
        'the sequence is busy with another reply',
        'wait for it, or end its iteration, and then call again',
      );
    }
  }
}
