// A text in the place of what a file holds: all of it or, where the disk is full or the process dies, what was there before.
import { randomUUID } from 'node:crypto';
import {
  closeSync,
  fchmodSync,
  openSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { isFull } from './write-failure.ts';

/** Writes beside the place and then moves. A link stays, and what it leads to is replaced; devices and pipes are written to, as is a file
 *  that alone may be written, not its folder.
 *  @param mode who may read a file that was not there
 *  @throws what the file system says */
export function writeWhole(file: string, text: string, mode = 0o666): void {
  const there = statSync(file, { throwIfNoEntry: false });
  if (there && !there.isFile()) {
    writeFileSync(file, text);
    return;
  }
  const place = there ? realpathSync(file) : file;
  const part = `${place}.${randomUUID()}.part`;
  const out = opened(part, mode);
  if (out === null) {
    writeFileSync(file, text, { mode });
    return;
  }
  try {
    try {
      if (there) fchmodSync(out, there.mode & 0o777);
      writeFileSync(out, text);
    } finally {
      closeSync(out);
    }
    if (!moved(part, place)) writeFileSync(file, text);
  } finally {
    rmSync(part, { force: true });
  }
}

/** Null: nothing can be made there. */
function opened(part: string, mode: number): number | null {
  try {
    return openSync(part, 'wx', mode);
  } catch (error) {
    // A full disk has no room for a name either; to cut the file would lose it.
    if (isFull(error)) throw error;
    return null;
  }
}

function moved(part: string, place: string): boolean {
  try {
    renameSync(part, place);
    return true;
  } catch (error) {
    // A file that is mounted, as containers have them, keeps its place.
    if (isCode(error, 'EBUSY', 'EACCES', 'EPERM')) return false;
    throw error;
  }
}

const isCode = (error: unknown, ...codes: readonly string[]): boolean =>
  codes.includes((error as NodeJS.ErrnoException).code ?? '');
