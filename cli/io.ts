// What a command may touch of the process: streams, environment, Ctrl-C. Tests hand over another one.
import { Readable } from 'node:stream';

export interface Io {
  readonly stdin: Readable & { readonly isTTY?: boolean };
  /** Data. */
  readonly out: (text: string) => void;
  /** Logs, progress and errors. */
  readonly err: (text: string) => void;
  readonly outIsTty: boolean;
  readonly errIsTty: boolean;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Aborted by the first Ctrl-C, unless a command listens itself. */
  readonly signal: AbortSignal;
  /** Hands Ctrl-C to a command until the returned function is called. */
  readonly onInterrupt: (listener: () => void) => () => void;
}

/** The process itself. A second Ctrl-C leaves at once, for a command that does not come to its end. */
export function processIo(): Io {
  const { stdin, stdout, stderr } = process;
  const quiet = (error: NodeJS.ErrnoException) => {
    // The reader left, as head does: nobody is there to be told.
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  };
  stdout.on('error', quiet);
  stderr.on('error', quiet);
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
    env: process.env,
    signal: stop.signal,
    onInterrupt: (own) => {
      listener = own;
      return () => {
        listener = undefined;
      };
    },
  };
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
    env: process.env,
    signal: options.signal ?? new AbortController().signal,
    onInterrupt: () => () => {},
  };
  return { io, written };
}
