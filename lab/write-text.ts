// A file that somebody asked for: written whole, or left as it was with an error that says why.
import { OnelaunchError } from '../errors.ts';
import { writeWhole } from '../files/whole-file.ts';
import { whyUnwritten } from '../files/write-failure.ts';

/** @throws OnelaunchError environment where it cannot be written */
export function writeText(path: string, text: string): void {
  try {
    writeWhole(path, text);
  } catch (error) {
    throw new OnelaunchError('environment', `cannot write ${path}: ${whyUnwritten(path, error)}`, {
      hint: 'give a file in a folder that can be written',
      cause: error,
    });
  }
}
