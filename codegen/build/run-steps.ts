// Runs compilers: each with all that it starts as one group of processes, of which none outlives the step or this process.
import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { dirname } from 'node:path';
import { compileError } from './compile-error.ts';
import { debug } from './debug.ts';
import { fullDiskOf } from './full-disk.ts';
import { buildHints } from './output-root.ts';
import { commandOf, type Step, type Tools } from './recipe.ts';

/** What a build is doing. */
export type BuildProgress =
  /** A step, such as kernel.cpp for AVX2. Several may run at the same time. */
  | { readonly event: 'begun'; readonly line: string }
  | { readonly event: 'ended'; readonly line: string; readonly millis: number }
  /** What people should know. */
  | { readonly event: 'note'; readonly line: string };

export interface RunOptions {
  readonly folder: string;
  /** For temporary files, which a compiler that is killed leaves behind. */
  readonly temporary: string;
  readonly tools: Tools;
  /** File name -> text: what errors are explained with. */
  readonly sources: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: BuildProgress) => void) | undefined;
}

/** Runs steps side by side, and gives what they printed. The first that fails ends the others.
 *  @throws BuildError of a compiler; OnelaunchError of kind environment for a full disk; the reason of the signal */
export async function runAll(steps: readonly Step[], options: RunOptions): Promise<string> {
  const queue = [...steps.entries()];
  const outputs = steps.map(() => '');
  const stop = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
  const worker = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      const [index, step] = next;
      outputs[index] = await runStep(step, { ...options, signal });
    }
  };
  const workers = Array.from({ length: Math.min(steps.length, availableParallelism()) }, worker);
  try {
    await Promise.all(workers);
    return outputs.join('');
  } catch (error) {
    stop.abort();
    await Promise.allSettled(workers);
    throw error;
  }
}

/**
 * Runs a command and waits for it. A guard beside it reads from a pipe of which only we have the other end: when we close it, or are gone,
 * however that came, it ends the whole group.
 */
const guarded = `
exec 3<&0 </dev/null
(read -r _ <&3; kill -s KILL 0) >/dev/null 2>&1 &
guard=$!
exec 3<&-
"$@"
status=$?
{ kill "$guard"; wait "$guard"; } 2>/dev/null
exit "$status"`;

/** What the tool printed. */
export async function runStep(step: Step, options: RunOptions): Promise<string> {
  const { folder, sources, onProgress } = options;
  const begun = performance.now();
  const command = commandOf(step, options.tools);
  onProgress?.({ event: 'begun', line: step.label });
  const { code, output } = await runCommand(command, options);
  const millis = performance.now() - begun;
  debug(1, () => `${step.label}: ${(millis / 1000).toFixed(1)} s`);
  if (output) debug(6, () => output.trimEnd());
  if (code !== 0) {
    throw (
      fullDiskOf(dirname(folder), output, buildHints) ?? compileError(step.label, output, sources, command)
    );
  }
  onProgress?.({ event: 'ended', line: step.label, millis });
  return output;
}

/** What a command printed, errors apart and both together, and with what it exited; null: a signal ended it.
 *  @throws the reason of the signal */
export function runCommand(
  command: readonly string[],
  { folder, temporary, signal }: Pick<RunOptions, 'folder' | 'temporary' | 'signal'>,
): Promise<{ readonly code: number | null; readonly output: string; readonly stdout: string }> {
  debug(6, () => command.join(' '));
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const child = spawn('/bin/sh', ['-c', guarded, 'sh', ...command], {
      cwd: folder,
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, TMPDIR: temporary, LC_ALL: 'C' },
      detached: true,
    });
    const end = () => child.stdin.destroy();
    signal?.addEventListener('abort', end, { once: true });
    const printed = { output: '', stdout: '' };
    child.stdout.on('data', (data: Buffer) => {
      printed.output += data.toString();
      printed.stdout += data.toString();
    });
    child.stderr.on('data', (data: Buffer) => (printed.output += data.toString()));
    child.on('error', reject);
    child.on('close', (code) => {
      signal?.removeEventListener('abort', end);
      if (signal?.aborted) reject(signal.reason);
      else resolve({ code, ...printed });
    });
  });
}
