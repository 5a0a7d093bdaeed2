// A GPU of few multiprocessors, for the emulator: what is left of one runs one block after the other.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { targetText } from '../../configs/target-file.ts';
import { targetNamed } from '../../configs/targets.ts';

/** Writes its target into a folder: the path. */
export function smallGpu(folder: string, name: string, sms: number): string {
  const path = join(folder, `${name}.json`);
  writeFileSync(path, targetText({ ...targetNamed(name)!, name: `small-${name}`, sms }));
  return path;
}
