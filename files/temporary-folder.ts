// A folder among the temporary files, for as long as a work takes.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type WriteHints, writeError } from './write-failure.ts';

export const temporaryHints: WriteHints = {
  full: 'free some space, or set TMPDIR to a folder on another disk',
  other: 'set TMPDIR to a folder that can be written',
};

/** Makes the folder, and removes it when the work has ended.
 *  @throws OnelaunchError of kind environment where none can be made; what the work throws */
export async function duringFolder<T>(name: string, work: (folder: string) => Promise<T>): Promise<T> {
  const folder = writingTemporary(() => mkdtempSync(join(tmpdir(), `onelaunch-${name}-`)));
  try {
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Does what writes among the temporary files. @throws OnelaunchError of kind environment where it cannot */
export function writingTemporary<T>(write: () => T): T {
  try {
    return write();
  } catch (error) {
    throw writeError(tmpdir(), error, temporaryHints);
  }
}
