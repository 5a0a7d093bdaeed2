// A benchmark as a command: its help, its errors and its exit code as gen has them.
import { fileURLToPath } from 'node:url';
import { CommanderError } from '@commander-js/extra-typings';
import { report as failure } from '../cli/errors.ts';
import type { Io } from '../cli/io.ts';

/** Runs it where its file is what was started. @param file import.meta.url of it */
export async function runStarted(
  file: string,
  command: string,
  io: Io,
  run: () => Promise<void>,
): Promise<void> {
  if (process.argv[1] !== fileURLToPath(file)) return;
  try {
    await run();
  } catch (error) {
    // Help was printed already.
    const isHelp = error instanceof CommanderError && error.exitCode === 0;
    if (!isHelp) process.exitCode = failure(error, io, { json: false, command });
  }
}
