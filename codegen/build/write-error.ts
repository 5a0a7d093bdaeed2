// What keeps a build, or a checkpoint, from being written, told so that a full disk is called one.
import { statfsSync } from 'node:fs';
import { OnelaunchError } from '../../errors.ts';
import { isFull } from '../../write-failure.ts';

/** What to do about a full disk, and about what else keeps from writing. */
interface Hints {
  readonly full: string;
  readonly other: string;
}

const ofBuilds: Hints = {
  full: 'free some space, or set ONELAUNCH_CACHE to a folder on another disk',
  other: 'set ONELAUNCH_CACHE to a folder that can be written',
};

const fullDisk = (folder: string, hint: string, cause?: unknown): OnelaunchError =>
  new OnelaunchError('environment', `the disk of ${folder} is full`, {
    hint,
    ...(cause !== undefined && { cause }),
  });

/** An error of the file system as one of ours, kind environment; another error as it is. */
export function writeError(folder: string, error: unknown, hints: Hints = ofBuilds): unknown {
  const { code, syscall, message } = error as NodeJS.ErrnoException;
  if (isFull(error)) return fullDisk(folder, hints.full, error);
  if (code === undefined || syscall === undefined) return error;
  return new OnelaunchError('environment', `cannot write ${folder}: ${message}`, {
    hint: hints.other,
    cause: error,
  });
}

/** The error of a tool that failed for want of space, if it did: tools say so in their own words, or only lack what was not written. */
export function fullDiskOf(folder: string, output: string): OnelaunchError | null {
  return /No space left on device|Disk quota exceeded/.test(output) || !hasSpace(folder)
    ? fullDisk(folder, ofBuilds.full)
    : null;
}

function hasSpace(folder: string): boolean {
  try {
    const { bavail, bsize } = statfsSync(folder);
    return bavail * bsize >= leastBytes;
  } catch {
    return true;
  }
}

/** No library is smaller. */
const leastBytes = 64 << 10;
