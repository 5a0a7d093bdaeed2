// What keeps a build from writing, told so that a full disk is called one.
import { statfsSync } from 'node:fs';
import { OnelaunchError } from '../../errors.ts';

const fullDisk = (folder: string, cause?: unknown): OnelaunchError =>
  new OnelaunchError('environment', `the disk of ${folder} is full`, {
    hint: 'free some space, or set ONELAUNCH_CACHE to a folder on another disk',
    ...(cause !== undefined && { cause }),
  });

/** An error of the file system as one of ours, kind environment; another error as it is. */
export function writeError(folder: string, error: unknown): unknown {
  const { code, syscall, message } = error as NodeJS.ErrnoException;
  if (code === 'ENOSPC' || code === 'EDQUOT') return fullDisk(folder, error);
  if (code === undefined || syscall === undefined) return error;
  return new OnelaunchError('environment', `cannot write ${folder}: ${message}`, {
    hint: 'set ONELAUNCH_CACHE to a folder that can be written',
    cause: error,
  });
}

/** The error of a tool that failed for want of space, if it did: tools say so in their own words, or only lack what was not written. */
export function fullDiskOf(folder: string, output: string): OnelaunchError | null {
  return /No space left on device|Disk quota exceeded/.test(output) || !hasSpace(folder)
    ? fullDisk(folder)
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
