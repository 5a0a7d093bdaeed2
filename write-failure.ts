// Why a file that somebody asked for was not written, in words.
import { existsSync } from 'node:fs';
import { dirname } from 'node:path';

const words: Readonly<Record<string, string>> = {
  EISDIR: 'it is a folder',
  ENOTDIR: 'what should be its folder is a file',
  EACCES: 'permission denied',
  EPERM: 'permission denied',
  ELOOP: 'it is a link that leads to itself',
  EEXIST: 'something else of that name is there',
  ENAMETOOLONG: 'its name is too long',
  EROFS: 'its disk can only be read',
  ENOSPC: 'its disk is full',
  EDQUOT: 'its disk is full',
  EFBIG: 'it is longer than a file may be here: see ulimit -f',
};

/** The reason that an error of the file system gives; its code, where there are no words for it, and what another error says. */
export function whyUnwritten(file: string, error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === undefined) return message;
  if (code === 'ENOENT' && !existsSync(dirname(file))) return 'its folder does not exist';
  return words[code] ?? code;
}

/** Whether a write failed since there is no room: on the disk, or in what its user may have of it. */
export const isFull = (error: unknown): boolean =>
  /^(ENOSPC|EDQUOT)$/.test((error as NodeJS.ErrnoException).code ?? '');
