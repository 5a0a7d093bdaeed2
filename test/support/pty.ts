// Programs under a terminal of a given width, by `script` of util-linux, which every Debian has.
import { spawn, spawnSync } from 'node:child_process';
import { expect } from 'vitest';
import { within } from './within.ts';

const found = spawnSync('script', ['--version'], { encoding: 'utf8' });

/** Why tests under a terminal cannot run here; null if they can. */
export const noPty: string | null = (found.stdout ?? '').includes('util-linux')
  ? null
  : 'no `script` of util-linux (Debian: bsdutils) on this machine: nothing ran under a terminal';

/** Keys as a terminal sends them. */
export const key = { enter: '\r', ctrlC: '\u0003', ctrlD: '\u0004', tab: '\t', up: '\u001b[A' } as const;
export const paste = (text: string): string => `\u001b[200~${text}\u001b[201~`;

/** A program that runs under a terminal. */
export interface Pty {
  send(keys: string): void;
  /** What was shown since the last call, as soon as it matches; escape sequences are left out. */
  until(pattern: RegExp): Promise<string>;
  /** All that was shown, as it came. */
  raw(): string;
  /** Its exit code. */
  exit(): Promise<number | null>;
  kill(): void;
}

export function openPty(
  command: readonly string[],
  { columns, env = {} }: { readonly columns: number; readonly env?: Readonly<Record<string, string>> },
): Pty {
  const words = command.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ');
  const child = spawn('script', ['-qec', `stty cols ${columns} rows 24; exec ${words}`, '/dev/null'], {
    env: { ...process.env, TERM: 'xterm', ...env },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let all = '';
  let seen = 0;
  let wake = () => {};
  let isOver = false;
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    all += text;
    wake();
  });
  const exit = new Promise<number | null>((resolve) => {
    child.on('close', (code) => {
      isOver = true;
      wake();
      resolve(code);
    });
  });
  return {
    send: (keys) => void child.stdin.write(keys),
    until: async (pattern) => {
      const deadline = performance.now() + 45_000;
      for (;;) {
        const shown = plain(all.slice(seen));
        if (pattern.test(shown)) {
          seen = all.length;
          return shown;
        }
        if (isOver || performance.now() > deadline) expect(shown, 'shown at the terminal').toMatch(pattern);
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, 1000);
          wake = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
    },
    raw: () => all,
    exit: () => within(exit, () => `the end of the program, after\n${plain(all.slice(seen))}`),
    kill: () => void child.kill('SIGKILL'),
  };
}

/** Without what moves the cursor or colours. */
const plain = (text: string): string =>
  text.replaceAll(new RegExp(`${'\u001b'}\\[[0-9;?]*[A-Za-z~]`, 'g'), '').replaceAll('\r', '');
