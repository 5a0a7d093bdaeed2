// Whether a file can be written, asked before what it is to hold is measured.
import { closeSync, openSync, statSync, unlinkSync } from 'node:fs';
import { OnelaunchError } from '../errors.ts';
import { whyUnwritten } from '../write-failure.ts';

/** Leaves what is there as it is.
 *  @param file what the user gave; undefined: nothing is asked for
 *  @param example a value of the flag
 *  @throws OnelaunchError of kind usage; environment where the disk is what keeps from it */
export function needWritable(flag: string, file: string | undefined, example: string): void {
  if (file === undefined) return;
  const why = file === '' ? 'no name' : whyNot(file);
  if (why === null) return;
  const kind = ofDisk.test(why) ? 'environment' : 'usage';
  throw new OnelaunchError(kind, `--${flag} is '${file}', which cannot be written: ${why}`, {
    hint: `for example: --${flag} ${example}`,
  });
}

const ofDisk = /^its disk/;

function whyNot(file: string): string | null {
  try {
    const before = statSync(file, { throwIfNoEntry: false });
    // To open a pipe is to wait for its reader.
    if (before && !before.isFile() && !before.isDirectory()) return null;
    closeSync(openSync(file, 'a'));
    if (!before) unlinkSync(file);
    return null;
  } catch (error) {
    return whyUnwritten(file, error);
  }
}
