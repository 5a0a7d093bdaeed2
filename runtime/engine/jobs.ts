// The jobs of one engine, one at a time, and those of its sequences: started in the library, followed by its events, and ended here.
import { OnelaunchError } from '../../errors.ts';
import { usage } from './arguments.ts';
import {
  abiStatus,
  type EngineHandle,
  type Functions,
  finishCode,
  jobState,
  type Progress,
  zeroProgress,
} from './bindings.ts';
import type { Channel } from './channel.ts';
import { failure } from './library-failure.ts';

type Start = (functions: Functions, handle: EngineHandle) => number;

/** Where a job runs in the library: its state and new tokens, and how it is asked to end. One job at a time. */
export interface Lane {
  /** Positions in the KV cache, as the library last said. */
  position: number;
  poll(functions: Functions, engine: EngineHandle, progress: Progress, tokens: Int32Array): number;
  stop(functions: Functions, engine: EngineHandle): number;
}

interface Follow {
  readonly lane: Lane;
  readonly signal?: AbortSignal | undefined;
  /** Resolve when aborted or stopped, where otherwise the signal's reason is thrown. */
  readonly abortIsEnd?: boolean;
  /** What it throws ends the job. */
  readonly onPoll?: (progress: Progress, tokens: Int32Array) => void;
  /** The library waits for what is said to each of its tokens. */
  readonly isAwaited?: boolean;
}

export interface Jobs {
  /** True from close on. */
  readonly closed: boolean;
  /** Starts a job and follows it to its end; null when the signal was aborted before. Holds the event loop open meanwhile. */
  run(start: Start, follow: Follow): Promise<Progress | null>;
  /** A call that is over when it returns. @throws OnelaunchError for any status but ok */
  call(start: Start): void;
  /** The library's text of what failed last. */
  error(): string;
  /** Asks the job of a lane to end; that of the engine's own lane, and with it all others. */
  stop(lane: Lane): void;
  /** Stops the job of a lane, and resolves when it has ended. Never fails. */
  ended(lane: Lane): Promise<void>;
  /** Stops all jobs, waits for their end without blocking, then closes. Never fails. */
  end(): Promise<void>;
  /** Closes at once: blocks for one pass at most. The jobs that run fail. */
  close(): void;
  /** To be called when the engine has something new. Of several jobs tokens are fetched together, and the thread then rests from them, but for the first
   *  token of a job, those that the library waits for an answer to and the end of one: what a token costs here is as long as a GPU takes for it. */
  hear(hasEnded?: boolean): void;
}

/** A job of the library that runs, seen from here. */
interface Job {
  readonly lane: Lane;
  readonly done: Promise<Progress>;
  readonly resolve: (progress: Progress) => void;
  readonly reject: (error: unknown) => void;
  readonly onPoll: NonNullable<Follow['onPoll']>;
  /** What onPoll threw. */
  thrown: { readonly error: unknown } | null;
  /** Whether tokens have come. */
  heard: boolean;
  readonly isAwaited: boolean;
}

/** The jobs of an engine that has just been made; the channel is closed with it. @param own the lane of the engine itself
 *  @param eagerMs for how long the first token of a job that runs alone is looked for at every turn of the event loop: whoever sleeps until
 *  it is told is woken 0.1 to 0.2 ms later */
export function followJobs(
  functions: Functions,
  made: EngineHandle,
  channel: Channel,
  own: Lane,
  eagerMs: number,
): Jobs {
  const tokens = new Int32Array(4096);
  const progress = zeroProgress();
  let handle: EngineHandle | null = made;
  const jobs = new Map<Lane, Job>();
  let fetched = Number.NEGATIVE_INFINITY;
  let timer: NodeJS.Timeout | undefined;

  const open = (): EngineHandle => {
    if (handle === null) throw usage('the engine is closed', 'load the model again');
    return handle;
  };
  const call = (start: Start) => {
    const engine = open();
    const status = start(functions, engine);
    if (status !== abiStatus.ok) throw failure(status, functions.ol_error(engine), 'failed');
  };
  const stop = (lane: Lane) => {
    if (handle !== null) lane.stop(functions, handle);
  };

  async function run(start: Start, { signal, abortIsEnd = false, ...follow }: Follow) {
    const { lane } = follow;
    if (signal?.aborted) {
      if (abortIsEnd) return null;
      throw signal.reason;
    }
    call(start);
    const current = newJob(follow);
    jobs.set(lane, current);
    channel.hold(true);
    if (jobs.size === 1 && eagerMs > 0) lookFor(current, performance.now() + eagerMs);
    const abort = () => stop(lane);
    signal?.addEventListener('abort', abort, { once: true });
    try {
      const end = await current.done;
      if (abortIsEnd || end.finish !== finishCode.aborted) return end;
      throw signal?.aborted ? signal.reason : closedMeanwhile();
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  function hear(hasEnded = false): void {
    const left = jobs.size > 1 && !hasEnded ? fetched + jobs.size * restMs - performance.now() : 0;
    if (left <= 0) {
      fetchAll();
      return;
    }
    timer ??= setTimeout(fetchAll, left);
    for (const { lane, heard, isAwaited } of [...jobs.values()]) if (isAwaited || !heard) drainLane(lane);
  }

  /** The engine is polled even where it has no job: it tells news once, until it is. */
  function fetchAll(): void {
    clearTimeout(timer);
    timer = undefined;
    fetched = performance.now();
    drainLane(own);
    for (const lane of [...jobs.keys()]) if (lane !== own) drainLane(lane);
  }

  function lookFor(job: Job, until: number): void {
    if (jobs.get(job.lane) !== job || job.heard || performance.now() > until) return;
    drainLane(job.lane);
    setImmediate(lookFor, job, until);
  }

  /** Fetches all that is new and gives it to the job; ends the job when the library says so. */
  function drainLane(lane: Lane): void {
    const current = jobs.get(lane);
    do {
      if (handle === null) return;
      lane.poll(functions, handle, progress, tokens);
      lane.position = progress.position;
      if (current === undefined) return;
      current.heard ||= progress.tokens > 0;
      try {
        current.onPoll(progress, tokens.subarray(0, progress.tokens));
      } catch (error) {
        current.thrown ??= { error };
        stop(lane);
      }
      if (jobs.get(lane) !== current) return;
    } while (progress.tokens === tokens.length);
    if (progress.state !== jobState.running) finishJob(current);
  }

  function finishJob(job: Job): void {
    jobs.delete(job.lane);
    channel.hold(jobs.size > 0);
    if (job.thrown) job.reject(job.thrown.error);
    else if (progress.state === jobState.failed) {
      job.reject(failure(progress.status, functions.ol_error(handle), 'failed'));
    } else job.resolve({ ...progress });
  }

  function close(): void {
    const engine = handle;
    if (engine === null) return;
    handle = null;
    clearTimeout(timer);
    functions.ol_close(engine);
    channel.close();
    const left = [...jobs.values()];
    jobs.clear();
    for (const job of left) job.reject(closedMeanwhile());
  }

  return {
    get closed() {
      return handle === null;
    },
    run,
    call,
    error: () => (handle === null ? '' : (functions.ol_error(handle) ?? '')),
    stop,
    async ended(lane) {
      const job = jobs.get(lane);
      if (job === undefined) return;
      stop(lane);
      await job.done.catch(() => {});
    },
    async end() {
      stop(own);
      await Promise.allSettled([...jobs.values()].map(({ done }) => done));
      close();
    },
    close,
    hear,
  };
}

const closedMeanwhile = () => new OnelaunchError('failed', 'the engine was closed during this job');

function newJob({ lane, onPoll = () => {}, isAwaited = false }: Omit<Follow, 'signal'>): Job {
  let resolve: Job['resolve'] = () => {};
  let reject: Job['reject'] = () => {};
  const done = new Promise<Progress>((onDone, onFailed) => {
    resolve = onDone;
    reject = onFailed;
  });
  return { lane, done, resolve, reject, onPoll, isAwaited, thrown: null, heard: false };
}

/** Between two times that tokens are fetched, for each of several jobs [ms]: with its event for a client of the server it takes 0.1 of them. */
const restMs = 0.25;
