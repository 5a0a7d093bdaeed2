// One engine of a generated library as an async object: load weights, generate, score. One job at a time, or several sequences at once.
// Tokens wait in the library; a socket wakes us, and no foreign thread ever calls into JavaScript.
import type { Manifest } from '../abi/manifest.ts';
import { abiStatus, type EngineHandle, type TensorSource } from './bindings.ts';
import { openChannel } from './channel.ts';
import { check, checkInteger, type TokenIds, tokenArray, usage } from './engine-arguments.ts';
import {
  type EngineSettings,
  type GenerateOptions,
  type GenerateResult,
  type LoadOptions,
  readGenerateOptions,
  readOptions,
  readSettings,
  readSources,
} from './engine-options.ts';
import { followJobs, type Jobs } from './jobs.ts';
import { type Library, openLibrary } from './library.ts';
import { failure } from './library-failure.ts';
import { type Recorded, takeEvents } from './profile-events.ts';
import { Sequence } from './sequence.ts';
import { tokenStream } from './token-stream.ts';

/** Logits of some tokens: rows [n][vocab], valid during the call only, the first of them that of ids[token]. */
export type OnRows = (rows: Float32Array, token: number) => void | Promise<void>;

/** Weights, KV cache and worker thread of one generated library. */
export class Engine {
  /** What it runs on, for people. */
  readonly device: string;
  /** Positions of each sequence of the KV cache. */
  readonly context: number;
  /** Floats of one logits row. */
  readonly vocab: number;
  readonly #jobs: Jobs;
  #busy = false;

  private constructor(library: Library, handle: EngineHandle, context: number, jobs: Jobs) {
    this.context = context;
    this.vocab = library.description.vocab;
    this.device = library.functions.ol_device(handle) ?? '';
    this.#jobs = jobs;
  }

  /** Opens the library of a manifest and makes an engine. Close it, or declare it with `await using`.
   *  @throws OnelaunchError when the library does not match or the device has no room */
  static async open(libraryPath: string, manifest: Manifest, settings: EngineSettings): Promise<Engine> {
    const options = readSettings(settings);
    if (options.sequences > 1 && manifest.kind !== 'cpu') {
      throw usage(
        `sequences is ${options.sequences}: a library for ${manifest.target} has one sequence`,
        'use a target of kind cpu, or leave sequences out',
      );
    }
    const library = openLibrary(libraryPath, manifest);
    const { functions } = library;
    let jobs: Jobs | undefined;
    const channel = openChannel(functions, () => jobs?.drain());
    const out: [EngineHandle | null] = [null];
    const status = functions.ol_create(options, channel.engineEnd, out);
    if (status !== abiStatus.ok) {
      channel.close();
      throw failure(status, functions.ol_error(null), 'environment');
    }
    jobs = followJobs(functions, out[0]!, channel);
    return new Engine(library, out[0]!, options.context, jobs);
  }

  /** Positions in the KV cache: tokens whose keys and values are computed. The last token of a reply is not among them. */
  get position(): number {
    return this.#jobs.position;
  }

  /** An empty sequence, whose replies run beside those of others. It takes the place of the engine's own, in which generate and score work,
   *  where no other is free and that one is empty. While sequences reply, the engine's own jobs are refused as busy.
   *  @throws OnelaunchError when none is free, a job runs, or no weights are loaded */
  open(): Sequence {
    this.#acquire();
    this.#busy = false;
    const slot = new Int32Array(1);
    this.#jobs.call((f, handle) => f.ol_sequence_open(handle, slot));
    return new Sequence(this.#jobs, slot[0]!, this.context, this.vocab);
  }

  /** Reads and packs the weights: one source for every slot of the manifest. Forgets all positions.
   *  @throws OnelaunchError, also when sequences are open; the signal's reason when aborted. The engine then has no weights. */
  async load(sources: readonly Readonly<TensorSource>[], options: LoadOptions = {}): Promise<void> {
    const { onProgress, signal } = readOptions(options);
    const checked = readSources(sources);
    await this.#exclusive(async () => {
      await this.#jobs.run((f, handle) => f.ol_load(handle, checked, checked.length), {
        signal,
        onPoll: (progress) => {
          if (Number(progress.total) > 0) onProgress?.(Number(progress.done), Number(progress.total));
        },
      });
    });
  }

  /** Feeds ids at the current position and yields the tokens of the reply, in batches as they come.
   *  Breaking out of the loop stops the reply. The last token yielded is not fed: a next prompt begins with it.
   *  @throws OnelaunchError, also when another job runs or the engine is closed meanwhile */
  async *generate(ids: TokenIds, options: GenerateOptions): AsyncGenerator<number[], GenerateResult> {
    const { maxTokens, stops, sampling, drafts, signal } = readGenerateOptions(options, this.vocab);
    const prompt = tokenArray('ids', ids, this.vocab);
    check(prompt.length > 0, 'ids is empty');
    const args = {
      ids: prompt,
      count: prompt.length,
      max_tokens: maxTokens,
      stop_ids: stops,
      stop_count: stops.length,
      ...drafts,
      sampling,
    };
    this.#acquire();
    try {
      return yield* tokenStream(
        (onTokens) =>
          this.#jobs.run((f, handle) => f.ol_generate(handle, args), {
            signal,
            abortIsEnd: true,
            onPoll: (_, tokens) => onTokens(tokens),
          }),
        () => this.#jobs.stop(),
      );
    } finally {
      this.#busy = false;
    }
  }

  /** Logits [ids.length - first][vocab] of ids[first] and those after it, fed at the current position.
   *  @throws OnelaunchError; the signal's reason when aborted */
  async score(
    ids: TokenIds,
    first: number,
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<Float32Array> {
    const tokens = tokenArray('ids', ids, this.vocab);
    checkInteger('first', first, 0, tokens.length);
    const size = (tokens.length - first) * this.vocab;
    if (size > maxScoreFloats) {
      throw usage(
        `${tokens.length - first} rows of ${this.vocab} logits do not fit into one array`,
        'use scoreRows',
      );
    }
    const logits = new Float32Array(size);
    let filled = 0;
    const place = (rows: Float32Array) => {
      logits.set(rows, filled);
      filled += rows.length;
    };
    await this.scoreRows(tokens, first, place, options);
    return logits;
  }

  /** Like score, with the rows handed over block by block: at most 64 MB of them exist at a time. */
  async scoreRows(
    ids: TokenIds,
    first: number,
    onRows: OnRows,
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<void> {
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
    const buffer = new Float32Array(Math.min(blockRows, Math.max(1, tokens.length - first)) * this.vocab);
    await this.#exclusive(async () => {
      for (let at = 0; at < tokens.length; ) {
        const begin = Math.max(at, first);
        const end = Math.min(tokens.length, begin + blockRows);
        const args = {
          ids: tokens.subarray(at, end),
          count: end - at,
          first: begin - at,
        };
        await this.#jobs.run((f, handle) => f.ol_score(handle, args), { signal });
        const rows = end - begin;
        if (rows > 0) {
          this.#jobs.call((f, handle) => f.ol_logits(handle, buffer, rows));
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
    this.#acquire();
    this.#busy = false;
    this.#jobs.reset(length);
  }

  /** What the library wrote down since this was last asked.
   *  @throws OnelaunchError when it was not built for profiling, or a job runs */
  takeProfile(): Recorded {
    this.#acquire();
    try {
      return takeEvents((start) => this.#jobs.call(start));
    } finally {
      this.#busy = false;
    }
  }

  /** Stops the job that runs, if any, and frees everything; blocks for one pass at most. The job's iteration ends with an error. */
  close(): void {
    this.#jobs.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** As close, but waits for the job that runs without blocking: a reply ends with finish 'abort', whether or not it is read on. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#jobs.end();
  }

  #acquire(): void {
    if (this.#jobs.closed) throw usage('the engine is closed', 'load the model again');
    if (this.#busy) {
      throw usage(
        'the engine is busy with another job',
        'wait for it, or end its iteration, and then call again',
      );
    }
    this.#busy = true;
  }

  async #exclusive<T>(body: () => Promise<T>): Promise<T> {
    this.#acquire();
    try {
      return await body();
    } finally {
      this.#busy = false;
    }
  }
}

/** Most bytes of logits that scoreRows holds. */
const scoreBlockBytes = 64 << 20;
/** Most floats that score returns: 4 GB. */
const maxScoreFloats = 2 ** 30;
