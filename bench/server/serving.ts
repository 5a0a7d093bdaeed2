// `gen serve` as a process of its own, and what it takes of the machine.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { OnelaunchError } from '../../errors.ts';

export class Serving {
  readonly url: string;
  readonly #child: ChildProcess;

  private constructor(url: string, child: ChildProcess) {
    this.url = url;
    this.#child = child;
  }

  /** Starts it at a free port, and waits until it is ready. @param flags of gen serve */
  static async start(model: string, flags: readonly string[]): Promise<Serving> {
    const cli = join(packageRoot(), 'cli', 'main.ts');
    const args = ['--import', 'tsx', cli, 'serve', model, '--port', '0', ...flags];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    const last: string[] = [];
    for await (const line of createInterface({ input: child.stderr })) {
      last.push(line);
      const url = /^ready: (\S+)\/v1 /.exec(line)?.[1];
      if (url === undefined) continue;
      child.stderr.resume();
      return new Serving(url, child);
    }
    const why = last.find((line) => line.startsWith('error: '))?.replace('error: ', '') ?? last.join(' ');
    const hint = last.find((line) => line.startsWith('hint: '))?.replace('hint: ', '');
    throw new OnelaunchError(
      'failed',
      `the server did not start: ${why}`,
      hint === undefined ? {} : { hint },
    );
  }

  /** Memory that it holds, in all [bytes]. */
  memory(): number {
    const status = readFileSync(`/proc/${this.#child.pid}/status`, 'utf8');
    return 1024 * Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)![1]);
  }

  /** What its threads have computed since it began [s]. */
  processorSeconds(): number {
    // Behind the name, which may have spaces: utime and stime are fields 14 and 15 of all, in hundredths of a second.
    const fields = readFileSync(`/proc/${this.#child.pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
    return (Number(fields[11]) + Number(fields[12])) / 100;
  }

  async close(): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGTERM');
    await ended;
  }
}
