// Where in the user's file a word of the plan language was written.
import { fileURLToPath } from 'node:url';

export interface Site {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** Not known, or not in a file. */
export const nowhere: Site = { file: '', line: 0, column: 0 };

/** The source position of the caller of the function that calls this. Works under tsx and vitest, which install source maps. */
export function callSite(): Site {
  const frame = (new Error().stack ?? '').split('\n')[3] ?? '';
  const found = /\(?((?:file:\/\/)?\/[^()]+):(\d+):(\d+)\)?$/.exec(frame.trim());
  if (!found) return nowhere;
  return { file: found[1]!.replace('file://', ''), line: Number(found[2]), column: Number(found[3]) };
}

/** A site's file is a path, or what is left of a file URL: escapes, and a loader's query. */
export function pathOf({ file }: Site): string {
  const path = file.split('?')[0]!;
  return path.includes('%') ? fileURLToPath(`file://${path}`) : path;
}
