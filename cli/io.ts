// What a command may touch of the process: streams, environment, signals that end it. Tests hand over another one.
import { fstatSync } from 'node:fs';
import { Readable } from 'node:stream';
import { isFull, whyUnwritten } from '../files/write-failure.ts';
import { endedBy, exitCode } from './exit-code.ts';

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
  /** Aborted by the first Ctrl-C, SIGTERM or SIGHUP, unless a command listens itself. */
  readonly signal: AbortSignal;
  /** With what a command exits that one of them ended: 130 for Ctrl-C, as shells say it, 143 and 129. */
  readonly interruptedCode: () => number;
  /** Hands all of them to a command until the returned function is called. */
  readonly onInterrupt: (listener: () => void) => () => void;
  /** The same of SIGTERM and SIGHUP alone, before who has all. */
  readonly onTerminate: (listener: () => void) => () => void;
  /** Tells a command that nobody reads its data any more, in place of ending the process as it does head's; until the returned function is called. */
  readonly onReaderLeft: (listener: () => void) => () => void;
}

const { stdout } = process;
const writeData = stdout.write.bind(stdout) as typeof stdout.write;

/** From here on stdout has data alone: what plan files, say, print there is on stderr. */
export function keepStdoutForData(): void {
  stdout.write = process.stderr.write.bind(process.stderr);
}

/** The process itself. A second signal leaves at once, for a command that does not come to its end. */
export function processIo(): Io {
  const { stderr } = process;
  const listeners: Record<'all' | 'terminate' | 'left', (() => void) | undefined> = {
    all: undefined,
    terminate: undefined,
    left: undefined,
  };
  stdout.on('error', (error: NodeJS.ErrnoException) => {
    // The reader left, as head does: nobody is there to be told.
    if (error.code === 'EPIPE') return (listeners.left ?? (() => process.exit(0)))();
    const why = `error: the output cannot be written: ${whyUnwritten('stdout', error)}\n`;
    const hint = `hint: ${isFull(error) ? 'free some space, or ' : ''}write it to another place: > FILE\n`;
    stderr.write(why + hint, () => process.exit(isFull(error) ? exitCode.environment : exitCode.failed));
  });
  // What cannot be said is not worth another exit code.
  stderr.on('error', () => {});
  const stop = new AbortController();
  let code: number | undefined;
  for (const [name, own] of Object.entries(endedBy)) {
    process.on(name, () => {
      code ??= own;
      const listener = (name === 'SIGINT' ? undefined : listeners.terminate) ?? listeners.all;
      if (listener) return listener();
      if (stop.signal.aborted) process.exit(code);
      stop.abort(new DOMException('interrupted', 'AbortError'));
    });
  }
  const handing = (to: keyof typeof listeners) => (listener: () => void) => {
    listeners[to] = listener;
    return () => {
      listeners[to] = undefined;
    };
  };
  return {
    stdin: stdinOfProcess(),
    out: (text) => void writeData(text),
    err: (text) => void stderr.write(text),
    outIsTty: stdout.isTTY === true,
    errIsTty: stderr.isTTY === true,
    columns: () => stdout.columns || stderr.columns || 80,
    env: process.env,
    signal: stop.signal,
    interruptedCode: () => code ?? endedBy.SIGINT,
    onInterrupt: handing('all'),
    onTerminate: handing('terminate'),
    onReaderLeft: handing('left'),
  };
}

/** Node takes a folder for an empty file: who reads it is told. */
function stdinOfProcess(): Io['stdin'] {
  if (!fstatSync(0).isDirectory()) return process.stdin;
  const error = Object.assign(new Error('stdin is a folder'), { code: 'EISDIR' });
  return new Readable({
    read() {
      this.destroy(error);
    },
  });
}

/** Ends the process when all that was written has arrived. Where it could not, the stream's own error ends it. */
export function leave(code: number): void {
  // Nobody reads it, and the command went on.
  if ((stdout.errored as NodeJS.ErrnoException | null)?.code === 'EPIPE') process.exit(code);
  writeData('', (error) => {
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
    interruptedCode: () => endedBy.SIGINT,
    onInterrupt: () => () => {},
    onTerminate: () => () => {},
    onReaderLeft: () => () => {},
  };
  return { io, written };
}
