// A file that somebody asked for: written whole, or an error that says why not.
import { writeFileSync } from 'node:fs';
import { OnelaunchError } from '../errors.ts';

/** @throws OnelaunchError environment where it cannot be written */
export function writeText(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new OnelaunchError('environment', `cannot write ${path}: ${reason}`, { cause: error });
  }
}
