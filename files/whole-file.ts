// A text in the place of what a file holds: all of it or, where the disk is full or the process dies, what was there before.
import { randomUUID } from 'node:crypto';
import {
  closeSync,
  fchmodSync,
  openSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, resolve } from 'node:path';
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
  const place = behindLinks(file);
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

/** The place of a file that is to be replaced: links to it stay, also those that lead to nothing yet. */
export function behindLinks(file: string): string {
  for (let place = file, links = 0; links < mostLinks; links++) {
    const link = linkAt(place);
    if (link === null) return place;
    place = resolve(realpathSync(dirname(place)), link);
  }
  throw Object.assign(new Error('too many links'), { code: 'ELOOP', syscall: 'readlink', path: file });
}

/** As many as Linux follows. */
const mostLinks = 40;

function linkAt(place: string): string | null {
  try {
    return readlinkSync(place);
  } catch {
    return null;
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
