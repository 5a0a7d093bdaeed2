// gen serve as a process of its own, on a port that is free.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { packageRoot } from '../../codegen/build/package-root.ts';

const root = packageRoot();

export interface Serving {
  readonly child: ChildProcess;
  readonly url: string;
  /** What it has written. */
  readonly written: { out: string; err: string };
  /** Its exit code, or its signal. */
  readonly ended: Promise<number | NodeJS.Signals | null>;
}

/** Resolves when it is ready, or has ended. */
export async function serve(...flags: readonly string[]): Promise<Serving> {
  const main = ['--import', 'tsx', join(root, 'cli', 'main.ts'), 'serve', 'qwen3-tiny', '--target', 'cpu'];
  const child = spawn(process.execPath, [...main, '--threads', '1', '--port', '0', ...flags], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const written = { out: '', err: '' };
  child.stdout.on('data', (data: Buffer) => {
    written.out += data.toString();
  });
  const ended = once(child, 'exit').then(([code, signal]) => (code ?? signal) as number | NodeJS.Signals);
  const url = await new Promise<string>((resolve) => {
    child.stderr.on('data', (data: Buffer) => {
      written.err += data.toString();
      const found = /ready: (http:\S+)\/v1 /.exec(written.err)?.[1];
      if (found) resolve(found);
    });
    void ended.then(() => resolve(''));
  });
  return { child, url, written, ended };
}
