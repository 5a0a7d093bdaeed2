// A file that somebody asked for: written whole, or an error that says why not.
import { writeFileSync } from 'node:fs';
import { OnelaunchError } from '../errors.ts';
import { whyUnwritten } from '../write-failure.ts';

/** @throws OnelaunchError environment where it cannot be written */
export function writeText(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const reason = code === undefined ? message : whyUnwritten(path, code);
    throw new OnelaunchError('environment', `cannot write ${path}: ${reason}`, {
      hint: 'give a file in a folder that can be written',
      cause: error,
    });
  }
}
