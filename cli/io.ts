// What a command may touch of the process: streams, environment, Ctrl-C. Tests hand over another one.
import { Readable } from 'node:stream';

export interface Io {
  readonly stdin: Readable & {
    readonly isTTY?: boolean;
    /** On a terminal: each key as it is pressed, Ctrl-C among them, and none echoed. */
    readonly setRawMode?: (on: boolean) => unknown;
  };
  /** Data. */
  readonly out: (text: string) => void;
  /** Logs, progress and errors. */
  readonly err: (text: string) => void;
  readonly outIsTty: boolean;
  readonly errIsTty: boolean;
  /** Width of the terminal; 80 where nothing says it. Asked anew each time: a window may change. */
  readonly columns: () => number;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Aborted by the first Ctrl-C, unless a command listens itself. */
  readonly signal: AbortSignal;
  /** Hands Ctrl-C to a command until the returned function is called. */
  readonly onInterrupt: (listener: () => void) => () => void;
  /** Hands SIGTERM, which otherwise ends the process, to a command until the returned function is called. */
  readonly onTerminate: (listener: () => void) => () => void;
}

/** The process itself. A second Ctrl-C leaves at once, for a command that does not come to its end. */
export function processIo(): Io {
  const { stdin, stdout, stderr } = process;
  stdout.on('error', (error: NodeJS.ErrnoException) => {
    // The reader left, as head does: nobody is there to be told.
    if (error.code === 'EPIPE') process.exit(0);
    stderr.write(`error: the output cannot be written: ${error.message}\n`, () => process.exit(1));
  });
  // What cannot be said is not worth another exit code.
  stderr.on('error', () => {});
  const stop = new AbortController();
  let listener: (() => void) | undefined;
  process.on('SIGINT', () => {
    if (listener) return listener();
    if (stop.signal.aborted) process.exit(130);
    stop.abort(new DOMException('interrupted', 'AbortError'));
  });
  return {
    stdin,
    out: (text) => void stdout.write(text),
    err: (text) => void stderr.write(text),
    outIsTty: stdout.isTTY === true,
    errIsTty: stderr.isTTY === true,
    columns: () => stdout.columns || stderr.columns || 80,
    env: process.env,
    signal: stop.signal,
    onInterrupt: (own) => {
      listener = own;
      return () => {
        listener = undefined;
      };
    },
    onTerminate: (own) => {
      process.on('SIGTERM', own);
      return () => void process.off('SIGTERM', own);
    },
  };
}

/** Ends the process when all that was written has arrived. Where it could not, the stream's own error ends it. */
export function leave(code: number): void {
  process.stdout.write('', (error) => {
    if (!error) process.exit(code);
  });
}

/** An Io that keeps what is written, with a text as its stdin: to run commands inside another program, or a test. */
export function memoryIo(options: { readonly stdin?: string; readonly signal?: AbortSignal } = {}) {
  const written = { out: '', err: '' };
  const io: Io = {
    stdin: Readable.from(options.stdin === undefined ? [] : [options.stdin]),
    out: (text) => {
      written.out += text;
    },
    err: (text) => {
      written.err += text;
    },
    outIsTty: false,
    errIsTty: false,
    columns: () => 80,
    env: process.env,
    signal: options.signal ?? new AbortController().signal,
    onInterrupt: () => () => {},
    onTerminate: () => () => {},
  };
  return { io, written };
}
