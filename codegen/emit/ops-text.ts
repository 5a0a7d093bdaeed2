// The pointwise ops of configs/ops.ts as C text, remembered with the hashes of all files that were read: reading TypeScript takes longer than all else.
import { createHash } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { makeFolder } from '../build/make-folder.ts';
import { outputRoot } from '../build/output-root.ts';
import { packageRoot } from '../build/package-root.ts';

/** Raised when codegen/emit/pointwise.ts prints the same source differently. */
const printerVersion = 2;

/** What is remembered of an op file: its text as C, and every file that was read for it. */
const remembered = z.strictObject({
  text: z.string(),
  /** Path -> hash of its bytes. */
  files: z.record(z.string(), z.string()),
});

/** One C function an op or helper, each ending without a line feed. `file` is the op file, shown in messages as `shown`. */
export async function opsText(
  file = join(packageRoot(), 'configs', 'ops.ts'),
  shown = 'configs/ops.ts',
): Promise<string[]> {
  const key = createHash('sha256')
    .update(JSON.stringify([printerVersion, file]))
    .digest('hex');
  const cached = join(outputRoot(), `ops-${key.slice(0, 12)}.json`);
  const known = readIfCurrent(cached);
  if (known !== null) return split(known);
  const { printOps } = await import('./pointwise.ts');
  const { text, files } = await printOps(file, { shown });
  const hashes = Object.fromEntries(files.map((path) => [path, hashOf(path)]));
  remember(cached, JSON.stringify({ text, files: hashes }));
  return split(text);
}

const hashOf = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');

const split = (text: string): string[] => text.trimEnd().split(/\n(?=DEVICE )/);

/** The text, if no file that it was printed from has changed since. */
function readIfCurrent(path: string): string | null {
  try {
    const { text, files } = remembered.parse(JSON.parse(readFileSync(path, 'utf8')));
    return Object.entries(files).every(([file, hash]) => hashOf(file) === hash) ? text : null;
  } catch {
    return null;
  }
}

/** Best effort: without the file the ops are only printed again. */
function remember(path: string, text: string): void {
  try {
    makeFolder(outputRoot());
    writeFileSync(`${path}.${process.pid}.tmp`, text);
    renameSync(`${path}.${process.pid}.tmp`, path);
  } catch {
    // A read-only cache folder is reported by the build, which needs it.
  }
}
