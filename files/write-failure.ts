// Why a file that somebody asked for was not written, in words.
import { existsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { OnelaunchError } from '../errors.ts';

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
  const { code, message, path = file } = error as NodeJS.ErrnoException;
  if (code === undefined) return message;
  if (code === 'ENOENT')
    return existsSync(dirname(path)) ? 'nothing can be made there' : 'its folder does not exist';
  return words[code] ?? code;
}

/** Whether it is what a file system says of a path, or of a write. */
export const isOfFiles = (error: unknown): boolean => {
  const { code = '' } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code in words;
};

/** Whether a write failed since there is no room: on the disk, or in what its user may have of it. */
export const isFull = (error: unknown): boolean =>
  /^(ENOSPC|EDQUOT)$/.test((error as NodeJS.ErrnoException).code ?? '');

/** What to do about a full disk, and about what else keeps from writing. */
export interface WriteHints {
  readonly full: string;
  readonly other: string;
}

/** An error of the file system, met while something was written into a folder, as one of ours, kind environment; another error as it is. */
export function writeError(folder: string, error: unknown, hints: WriteHints): unknown {
  const { code, syscall, path = folder } = error as NodeJS.ErrnoException;
  if (isFull(error)) return fullDisk(folder, hints.full, error);
  if (code === undefined || syscall === undefined) return error;
  const why = whyNoFolder(folder, code, syscall) ?? whyUnwritten(path, error);
  return new OnelaunchError('environment', `cannot write in ${folder}: ${why}`, {
    hint: hints.other,
    cause: error,
  });
}

export const fullDisk = (folder: string, hint: string, cause?: unknown): OnelaunchError =>
  new OnelaunchError('environment', `the disk of ${folder} is full`, {
    hint,
    ...(cause !== undefined && { cause }),
  });

/** What is wrong with the folder itself, if that is what the error is of. */
function whyNoFolder(folder: string, code: string, syscall: string): string | undefined {
  try {
    const there = statSync(folder, { throwIfNoEntry: false });
    const lacks = syscall === 'mkdir' ? 'it cannot be made' : 'it does not exist';
    if (there === undefined) return code === 'ENOENT' ? lacks : undefined;
    return there.isDirectory() ? undefined : 'it is no folder';
  } catch {
    return undefined;
  }
}
