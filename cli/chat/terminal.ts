// The lines of a person at a terminal. Between two of them nothing is echoed: what is typed waits for the next prompt.
import { createInterface } from 'node:readline';
import { Readable, Writable } from 'node:stream';
import type { Io } from '../io.ts';
import { wordWrap } from '../wrap.ts';
import { fromLine, type Key, keyReader, markPastes, shownLine, toLine } from './keys.ts';

/** What came of a prompt. */
type Typed =
  /** A line; several if they were pasted. */
  | { readonly line: string }
  /** Ctrl-C on a line with text, which is gone. */
  | 'cleared'
  /** Ctrl-C on an empty line. */
  | 'interrupt'
  /** Ctrl-D, or nobody is there any more. */
  | 'end';

export interface Terminal {
  read(prompt: string): Promise<Typed>;
  /** Writes text beside the answers, broken between its words. */
  say(text: string): void;
  /** Puts a message into the history in the place of the lines it was typed in. */
  remember(message: string): void;
  /** Hands Ctrl-C between two lines to a listener until the returned function is called. */
  onInterrupt(listener: () => void): () => void;
  close(): void;
}

const historySize = 200;

/** @param history messages typed before, newest first; onHistory is told of each change
 *  @param complete what a word at the begin of a line may become */
export function openTerminal(
  io: Io,
  options: {
    readonly history: readonly string[];
    readonly onHistory: (history: readonly string[]) => void;
    readonly complete: (line: string) => readonly string[];
  },
): Terminal {
  const write = io.errIsTty || !io.outIsTty ? io.err : io.out;
  const marks = io.env['TERM'] === 'dumb' ? { on: '', off: '' } : markPastes;
  const raw = (on: boolean) => void io.stdin.setRawMode?.(on);
  // readline edits the line; what reaches it and what it shows pass through here.
  const input = Object.assign(new Readable({ read: () => {} }), { isTTY: true, setRawMode: raw });
  const output = Object.assign(
    new Writable({
      decodeStrings: false,
      write: (chunk, _, done) => {
        write(shownLine(String(chunk)));
        done();
      },
    }),
    { isTTY: true },
  );
  Object.defineProperty(output, 'columns', { get: io.columns });
  let history = options.history.slice(0, historySize).map(toLine);
  const lines = createInterface({
    input,
    output,
    terminal: true,
    history: [...history],
    historySize,
    completer: (line: string) => [options.complete(line), line],
  });
  /** readline's own list, once it has shown it. */
  let offered: string[] | undefined;
  lines.on('history', (all: string[]) => {
    offered = all;
  });

  let reader: ((typed: Typed) => void) | undefined;
  let listener: (() => void) | undefined;
  /** Keys that came before the prompt they are for. */
  const waiting: Exclude<Key, 'interrupt' | 'suspend'>[] = [];
  let isGone = false;
  let isClosed = false;
  const answer = (typed: Typed) => {
    const answered = reader;
    reader = undefined;
    answered?.(typed);
  };
  lines.on('line', (line) => answer({ line: fromLine(line) }));
  lines.on('close', () => {
    isClosed = true;
    answer('end');
  });

  /** Gives the line its keys, up to the one that ends it. */
  const edit = () => {
    while (reader !== undefined && !isClosed) {
      const next = waiting.shift();
      if (next === undefined) {
        if (isGone) lines.close();
        return;
      }
      if ('paste' in next) lines.write(toLine(next.paste));
      else input.emit('data', next.keys);
    }
  };
  const interrupt = () => {
    if (reader === undefined) listener?.();
    else if (lines.line === '') answer('interrupt');
    else {
      lines.write(null, { ctrl: true, name: 'e' });
      lines.write(null, { ctrl: true, name: 'u' });
      answer('cleared');
    }
  };
  /** Ctrl-Z: the whole group stops, as when the terminal itself obeys that key. */
  const suspend = () => {
    raw(false);
    write(marks.off);
    const goOn = () => {
      process.removeListener('SIGCONT', goOn);
      clearTimeout(ignored);
      if (isClosed) return;
      raw(true);
      write(marks.on);
      if (reader !== undefined) lines.prompt(true);
    };
    process.on('SIGCONT', goOn);
    // Without a shell that could continue it, the group is not stopped.
    const ignored = setTimeout(goOn, 300);
    process.kill(0, 'SIGTSTP');
  };

  const read = keyReader();
  const onData = (chunk: string) => {
    for (const key of read(chunk)) {
      if (key === 'interrupt') interrupt();
      else if (key === 'suspend') suspend();
      else waiting.push(key);
    }
    edit();
  };
  const onEnd = () => {
    isGone = true;
    edit();
  };
  const onResize = () => void output.emit('resize');
  const restore = () => {
    write(marks.off);
    raw(false);
  };
  io.stdin.setEncoding('utf8').on('data', onData).on('end', onEnd).on('error', onEnd);
  process.on('SIGWINCH', onResize).on('exit', restore);
  const releases = [io.onInterrupt(interrupt), io.onTerminate(() => process.exit(io.interruptedCode()))];
  raw(true);
  write(marks.on);

  return {
    say: (text) => {
      const wrap = wordWrap(io.columns);
      write(wrap.push(text) + wrap.end());
    },
    read: (prompt) =>
      new Promise((resolve) => {
        if (isClosed) return resolve('end');
        reader = resolve;
        lines.setPrompt(prompt);
        lines.prompt();
        edit();
      }),
    remember: (message) => {
      const line = toLine(message);
      history = [line, ...history.filter((other) => other !== line)].slice(0, historySize);
      offered?.splice(0, offered.length, ...history);
      options.onHistory(history.map(fromLine));
    },
    onInterrupt: (own) => {
      listener = own;
      return () => {
        listener = undefined;
      };
    },
    close: () => {
      lines.close();
      io.stdin.removeListener('data', onData).removeListener('end', onEnd).pause();
      process.removeListener('SIGWINCH', onResize).removeListener('exit', restore);
      for (const release of releases) release();
      restore();
    },
  };
}
