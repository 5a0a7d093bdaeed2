// The messages typed before, for the arrow keys: a JSON text a line, newest first.
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { makeFolder } from '../../files/make-folder.ts';
import { writeWhole } from '../../files/whole-file.ts';

export async function historyFile(): Promise<string> {
  const { outputRoot } = await import('../../codegen/build/output-root.ts');
  return join(outputRoot(), 'chat-history.jsonl');
}

/** Newest first. What is no message is left out, as is a file that cannot be read. */
export function readHistory(file: string): string[] {
  try {
    return readFileSync(file, 'utf8').split('\n').flatMap(parsed);
  } catch {
    return [];
  }
}

function parsed(line: string): string[] {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'string' ? [value] : [];
  } catch {
    return [];
  }
}

/** Kept for the user alone. A history that cannot be written is not worth an error. */
export function writeHistory(file: string, messages: readonly string[]): void {
  try {
    makeFolder(dirname(file));
    writeWhole(file, messages.map((message) => `${JSON.stringify(message)}\n`).join(''), 0o600);
  } catch {}
}
