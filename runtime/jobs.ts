// The jobs of one engine, one at a time: started in the library, followed by its events, and ended here.
import { OnelaunchError } from '../errors.ts';
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
import { usage } from './engine-arguments.ts';
import { failure } from './library-failure.ts';

type Start = (functions: Functions, handle: EngineHandle) => number;

interface Follow {
  readonly signal?: AbortSignal | undefined;
  /** Resolve when aborted or stopped, where otherwise the signal's reason is thrown. */
  readonly abortIsEnd?: boolean;
  /** What it throws ends the job. */
  readonly onPoll?: (progress: Progress, tokens: Int32Array) => void;
}

export interface Jobs {
  /** Positions in the KV cache. */
  readonly position: number;
  /** True from close on. */
  readonly closed: boolean;
  /** Starts a job and follows it to its end; null when the signal was aborted before. Holds the event loop open meanwhile. */
  run(start: Start, follow?: Follow): Promise<Progress | null>;
  /** A call that is over when it returns. @throws OnelaunchError for any status but ok */
  call(start: Start): void;
  /** Forgets positions from length on. */
  reset(length: number): void;
  /** Asks the job that runs to end. */
  stop(): void;
  /** Stops the job that runs, waits for its end without blocking, then closes. Never fails. */
  end(): Promise<void>;
  /** Closes at once: blocks for one pass at most. The job that runs fails. */
  close(): void;
  /** To be called when the engine has something new. */
  drain(): void;
}

/** A job of the library that runs, seen from here. */
interface Job {
  readonly done: Promise<Progress>;
  readonly resolve: (progress: Progress) => void;
  readonly reject: (error: unknown) => void;
  readonly onPoll: NonNullable<Follow['onPoll']>;
  /** What onPoll threw. */
  thrown: { readonly error: unknown } | null;
}

/** The jobs of an engine that has just been made; the channel is closed with it. */
export function followJobs(functions: Functions, made: EngineHandle, channel: Channel): Jobs {
  const tokens = new Int32Array(4096);
  const progress = zeroProgress();
  let handle: EngineHandle | null = made;
  let job: Job | null = null;
  let position = 0;

  const open = (): EngineHandle => {
    if (handle === null) throw usage('the engine is closed', 'load the model again');
    return handle;
  };
  const call = (start: Start) => {
    const engine = open();
    const status = start(functions, engine);
    if (status !== abiStatus.ok) throw failure(status, functions.ol_error(engine), 'failed');
  };
  const stop = () => {
    if (handle !== null) functions.ol_stop(handle);
  };

  async function run(start: Start, { signal, abortIsEnd = false, onPoll = () => {} }: Follow = {}) {
    if (signal?.aborted) {
      if (abortIsEnd) return null;
      throw signal.reason;
    }
    call(start);
    const current = newJob(onPoll);
    job = current;
    channel.hold(true);
    signal?.addEventListener('abort', stop, { once: true });
    try {
      const end = await current.done;
      if (abortIsEnd || end.finish !== finishCode.aborted) return end;
      throw signal?.aborted ? signal.reason : closedMeanwhile();
    } finally {
      signal?.removeEventListener('abort', stop);
    }
  }

  /** Fetches all that is new and gives it to the job; ends the job when the library says so. */
  function drain(): void {
    do {
      if (handle === null) return;
      functions.ol_poll(handle, progress, tokens, tokens.length);
      position = progress.position;
      const current = job;
      if (current === null) return;
      try {
        current.onPoll(progress, tokens.subarray(0, progress.tokens));
      } catch (error) {
        current.thrown ??= { error };
        stop();
      }
      if (job !== current) return;
    } while (progress.tokens === tokens.length);
    if (progress.state !== jobState.running) finishJob();
  }

  function finishJob(): void {
    const current = job;
    job = null;
    channel.hold(false);
    if (current?.thrown) current.reject(current.thrown.error);
    else if (progress.state === jobState.failed) {
      current?.reject(failure(progress.status, functions.ol_error(handle), 'failed'));
    } else current?.resolve({ ...progress });
  }

  function close(): void {
    const engine = handle;
    if (engine === null) return;
    handle = null;
    functions.ol_close(engine);
    channel.close();
    const current = job;
    job = null;
    current?.reject(closedMeanwhile());
  }

  return {
    get position() {
      return position;
    },
    get closed() {
      return handle === null;
    },
    run,
    call,
    reset(length) {
      call((f, engine) => f.ol_reset(engine, length));
      position = length;
    },
    stop,
    async end() {
      stop();
      await job?.done.catch(() => {});
      close();
    },
    close,
    drain,
  };
}

const closedMeanwhile = () => new OnelaunchError('failed', 'the engine was closed during this job');

function newJob(onPoll: Job['onPoll']): Job {
  let resolve: Job['resolve'] = () => {};
  let reject: Job['reject'] = () => {};
  const done = new Promise<Progress>((onDone, onFailed) => {
    resolve = onDone;
    reject = onFailed;
  });
  return { done, resolve, reject, onPoll, thrown: null };
}
