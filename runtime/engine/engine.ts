// One engine of a generated library as an async object: load weights, generate, score. One job at a time, or several sequences at once.
// Tokens wait in the library; a socket wakes us, and no foreign thread ever calls into JavaScript.
import type { Manifest } from '../../abi/manifest.ts';
import type { TokenIds } from './arguments.ts';
import { abiStatus, type EngineHandle, type TensorSource } from './bindings.ts';
import { openChannel } from './channel.ts';
import { followJobs, type Jobs } from './jobs.ts';
import { type Library, openLibrary } from './library.ts';
import { failure } from './library-failure.ts';
import {
  type EngineSettings,
  type GenerateOptions,
  type GenerateResult,
  type LoadOptions,
  readOptions,
  readSettings,
  readSources,
} from './options.ts';
import { type Recorded, takeEvents } from './profile-events.ts';
import { type Abortable, laneOf, type OnRows, ownLane, Sequence, type SequenceLane } from './sequence.ts';
import { Turn } from './turn.ts';

/** A GPU has the first token behind a short prompt by then. A CPU has better use for the core. */
const eagerMs = 2;

/** Weights, KV cache and worker thread of one generated library. Its own jobs work on one sequence of the cache. */
export class Engine {
  /** What it runs on, for people. */
  readonly device: string;
  /** Positions of each sequence of the KV cache. */
  readonly context: number;
  /** Floats of one logits row. */
  readonly vocab: number;
  readonly #jobs: Jobs;
  readonly #turn: Turn;
  readonly #lane: SequenceLane;
  /** What the engine's own jobs work on. */
  readonly #own: Sequence;
  #draft: Engine | undefined;
  #draftFailed = false;

  private constructor(
    library: Library,
    handle: EngineHandle,
    context: number,
    jobs: Jobs,
    lane: SequenceLane,
  ) {
    this.context = context;
    this.vocab = library.description.vocab;
    this.device = library.functions.ol_device(handle) ?? '';
    this.#jobs = jobs;
    this.#lane = lane;
    this.#turn = new Turn(jobs, 'the engine');
    this.#own = new Sequence(jobs, lane, this, this.#turn);
  }

  /** Opens the library of a manifest and makes an engine. Close it, or declare it with `await using`.
   *  @throws OnelaunchError when the library does not match or the device has no room */
  static async open(libraryPath: string, manifest: Manifest, settings: EngineSettings): Promise<Engine> {
    const options = readSettings(settings);
    const library = openLibrary(libraryPath, manifest);
    const { functions } = library;
    let jobs: Jobs | undefined;
    const channel = openChannel(functions, (hasEnded) => jobs?.hear(hasEnded));
    const out: [EngineHandle | null] = [null];
    const status = functions.ol_create(options, channel.engineEnd, out);
    if (status !== abiStatus.ok) {
      channel.close();
      throw failure(status, functions.ol_error(null), 'environment');
    }
    const lane = ownLane();
    jobs = followJobs(functions, out[0]!, channel, lane, manifest.kind === 'cuda' ? eagerMs : 0);
    return new Engine(library, out[0]!, options.context, jobs, lane);
  }

  /** Positions in the KV cache: tokens whose keys and values are computed. The last token of a reply is not among them. */
  get position(): number {
    return this.#own.position;
  }

  /** An empty sequence, whose jobs run beside those of others. It takes the place of the engine's own, in which generate and score work,
   *  where no other is free and that one is empty. While sequences have jobs, the engine's own are refused as busy.
   *  @throws OnelaunchError when none is free, a job runs, or no weights are loaded */
  open(): Sequence {
    this.#turn.take();
    this.#turn.leave();
    const slot = new Int32Array(1);
    this.#jobs.call((f, handle) => f.ol_sequence_open(handle, slot));
    return new Sequence(this.#jobs, laneOf(slot[0]!), this, new Turn(this.#jobs, 'the sequence'));
  }

  /** Reads and packs the weights: one source for every slot of the manifest. Forgets all positions.
   *  @throws OnelaunchError, also when sequences are open; the signal's reason when aborted. The engine then has no weights. */
  async load(sources: readonly Readonly<TensorSource>[], options: LoadOptions = {}): Promise<void> {
    const { onProgress, signal } = readOptions(options);
    const checked = readSources(sources);
    await this.#turn.during(async () => {
      await this.#jobs.run((f, handle) => f.ol_load(handle, checked, checked.length), {
        lane: this.#lane,
        signal,
        onPoll: (progress) => {
          if (Number(progress.total) > 0) onProgress?.(Number(progress.done), Number(progress.total));
        },
      });
    });
  }

  /** Has another engine draft for the replies of this one that look for drafts. It is this one's from here on, which closes it.
   *  @throws OnelaunchError when a job runs */
  draftWith(draft: Engine): void {
    draft.#jobs.call((f, drafts) => {
      const drafter = BigInt(f.ol_drafter());
      this.#jobs.call((own, handle) => own.ol_draft_with(handle, drafts, drafter, draft.vocab));
      return abiStatus.ok;
    });
    this.#draft = draft;
  }

  /** Whether another engine drafts. */
  get drafts(): boolean {
    return this.#draft !== undefined;
  }

  /** Feeds ids at the current position and yields the tokens of the reply, in batches as they come.
   *  Breaking out of the loop stops the reply. The last token yielded is not fed: a next prompt begins with it.
   *  @throws OnelaunchError, also when another job runs or the engine is closed meanwhile */
  generate(ids: TokenIds, options: GenerateOptions): AsyncGenerator<number[], GenerateResult> {
    const reply = this.#own.generate(ids, options);
    return this.drafts ? this.#warning(reply) : reply;
  }

  /** A reply behind which is said why there are no drafts any more. */
  async *#warning(reply: AsyncGenerator<number[], GenerateResult>) {
    const result = yield* reply;
    if (result.draftsFailed) this.#warnOfDrafts();
    return result;
  }

  /** Says once why there are no drafts any more. */
  #warnOfDrafts(): void {
    if (this.#draftFailed || this.#draft === undefined) return;
    this.#draftFailed = true;
    process.emitWarning(
      `the draft model failed, and replies go on without it: ${this.#draft.#jobs.error()}`,
      {
        code: 'ONELAUNCH_DRAFT',
      },
    );
  }

  /** Logits [ids.length - first][vocab] of ids[first] and those after it, fed at the current position.
   *  @throws OnelaunchError; the signal's reason when aborted */
  score(ids: TokenIds, first: number, options?: Abortable): Promise<Float32Array> {
    return this.#own.score(ids, first, options);
  }

  /** Like score, with the rows handed over block by block: at most 64 MB of them exist at a time. */
  scoreRows(ids: TokenIds, first: number, onRows: OnRows, options?: Abortable): Promise<void> {
    return this.#own.scoreRows(ids, first, onRows, options);
  }

  /** Forgets all positions from `length` on.
   *  @throws OnelaunchError when a job runs or there are fewer */
  reset(length = 0): void {
    this.#own.reset(length);
  }

  /** As those of a sequence, of the engine's own. */
  cacheBytes(): number {
    return this.#own.cacheBytes();
  }

  readCache(position: number, count: number): Uint8Array {
    return this.#own.readCache(position, count);
  }

  writeCache(ids: TokenIds, bytes: Uint8Array): void {
    this.#own.writeCache(ids, bytes);
  }

  /** What the library wrote down since this was last asked.
   *  @throws OnelaunchError when it was not built for profiling, or a job runs */
  takeProfile(): Recorded {
    this.#turn.take();
    try {
      return takeEvents((start) => this.#jobs.call(start));
    } finally {
      this.#turn.leave();
    }
  }

  /** Stops the job that runs, if any, and frees everything; blocks for one pass at most. The job's iteration ends with an error. */
  close(): void {
    this.#jobs.close();
    this.#draft?.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** As close, but waits for the job that runs without blocking: a reply ends with finish 'abort', whether or not it is read on. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#jobs.end();
    this.#draft?.close();
  }
}
