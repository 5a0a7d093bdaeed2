// The pointwise ops of configs/ops.ts as C text, remembered by the hash of their source: reading TypeScript takes longer than all else.
import { createHash } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeFolder } from './make-folder.ts';
import { outputRoot } from './output-root.ts';
import { packageRoot } from './package-root.ts';

/** Raised when codegen/pointwise.ts prints the same source differently. */
const printerVersion = 1;

/** One C function an op or helper, each ending without a line feed. */
export async function opsText(): Promise<string[]> {
  const folder = join(packageRoot(), 'configs');
  const digest = createHash('sha256').update(String(printerVersion));
  for (const file of ['ops.ts', 'dsl.ts']) digest.update(readFileSync(join(folder, file)));
  const cached = join(outputRoot(), `ops-${digest.digest('hex').slice(0, 12)}.txt`);
  const known = readIfThere(cached);
  if (known !== null) return split(known);
  const { printOps } = await import('./pointwise.ts');
  const { text } = await printOps(join(folder, 'ops.ts'), { shown: 'configs/ops.ts' });
  remember(cached, text);
  return split(text);
}

const split = (text: string): string[] => text.trimEnd().split(/\n(?=DEVICE )/);

function readIfThere(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
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
