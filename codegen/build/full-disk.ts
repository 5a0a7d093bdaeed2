// What keeps a tool from writing, told so that a full disk is called one.
import { statfsSync } from 'node:fs';
import type { OnelaunchError } from '../../errors.ts';
import { fullDisk, type WriteHints } from '../../files/write-failure.ts';

/** The error of a tool that failed for want of space, if it did: tools say so in their own words, or only lack what was not written. */
export function fullDiskOf(folder: string, output: string, { full }: WriteHints): OnelaunchError | null {
  return /No space left on device|Disk quota exceeded/.test(output) || !hasSpace(folder)
    ? fullDisk(folder, full)
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
