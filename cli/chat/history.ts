// The questions asked before, for the arrow keys.
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { makeFolder } from '../codegen/build/make-folder.ts';

export async function historyFile(): Promise<string> {
  const { outputRoot } = await import('../codegen/build/output-root.ts');
  return join(outputRoot(), 'chat-history.txt');
}

/** Newest first, as readline wants them. */
export function readHistory(file: string): string[] {
  try {
    return readFileSync(file, 'utf8')
      .split('\n')
      .filter((line) => line !== '');
  } catch {
    return [];
  }
}

/** Kept for the user alone. A history that cannot be written is not worth an error. */
export function writeHistory(file: string, lines: readonly string[]): void {
  try {
    makeFolder(dirname(file));
    writeFileSync(file, `${lines.join('\n')}\n`, { mode: 0o600 });
  } catch {}
}
