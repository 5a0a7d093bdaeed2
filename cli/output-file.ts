// Whether a file can be written, asked before what it is to hold is measured.
import { closeSync, openSync, statSync, unlinkSync } from 'node:fs';
import { resolve } from 'node:path';
import { OnelaunchError } from '../errors.ts';
import { whyUnwritten } from '../files/write-failure.ts';

type Flagged = readonly [flag: string, file: string | undefined];

/** A file that is read, or written by another flag, is not written over. @throws OnelaunchError usage where it is one of the others */
export function needApart([flag, file]: Flagged, others: readonly Flagged[]): void {
  const same = others.find(([, other]) => file !== undefined && other !== undefined && isSame(file, other));
  if (same === undefined) return;
  throw new OnelaunchError('usage', `${flag} is '${file}', and so is ${same[0]}`, {
    hint: 'give another name',
  });
}

function isSame(a: string, b: string): boolean {
  const [one, other] = [a, b].map((file) => statSync(file, { throwIfNoEntry: false }));
  if (!one || !other) return resolve(a) === resolve(b);
  return one.isFile() && one.ino === other.ino && one.dev === other.dev;
}

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
