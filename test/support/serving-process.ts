// gen serve as a process of its own, on a port that is free; its replies can be held.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { holding } from './held-replies.ts';
import { within } from './within.ts';

const root = packageRoot();

export interface Serving {
  readonly child: ChildProcess;
  readonly url: string;
  /** What it has written. */
  readonly written: { out: string; err: string };
  /** Resolves when it has written so to stderr. */
  wrote(text: string): Promise<void>;
  /** Lets the replies go on that are held. */
  letGo(): void;
  /** Its exit code, or its signal. */
  ended(): Promise<number | NodeJS.Signals>;
}

/** Resolves when it is ready, or has ended. */
export async function serve(...flags: readonly string[]): Promise<Serving> {
  const main = [...holding, join(root, 'cli', 'main.ts'), 'serve', 'qwen3-tiny', '--target', 'cpu'];
  const child = spawn(process.execPath, [...main, '--threads', '1', '--port', '0', ...flags], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const written = { out: '', err: '' };
  child.stdout.on('data', (data: Buffer) => {
    written.out += data.toString();
  });
  child.stderr.on('data', (data: Buffer) => {
    written.err += data.toString();
  });
  const exit = once(child, 'close').then(([code, signal]) => (code ?? signal) as number | NodeJS.Signals);
  const wrote = async (text: string) => {
    const said = async () => {
      while (!written.err.includes(text)) await once(child.stderr, 'data');
    };
    await within(Promise.race([said(), exit]), () => `'${text}' of the server, which wrote:\n${written.err}`);
    if (!written.err.includes(text)) throw new Error(`the server ended without '${text}':\n${written.err}`);
  };
  await wrote('ready: ').catch((error) => {
    child.kill('SIGKILL');
    throw error;
  });
  return {
    child,
    url: /ready: (http:\S+)\/v1 /.exec(written.err)?.[1] ?? '',
    written,
    wrote,
    letGo: () => void child.kill('SIGUSR2'),
    ended: () => within(exit, () => `the end of the server, which wrote:\n${written.err}`),
  };
}
