// Where in the user's file a word of the plan language was written.
import { findSourceMap } from 'node:module';
import { fileURLToPath } from 'node:url';

/** A place in a file: line and column from 1 on. */
export interface Site {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** Not known, or not in a file. */
export const nowhere: Site = { file: '', line: 0, column: 0 };

/** The source position of the caller of the function that calls this. */
export function callSite(): Site {
  return mapped(compiledSite()) ?? tracedSite();
}

/** As the loader of plan files, tsx, maps it; it leaves its maps to Node. */
function mapped(frame: NodeJS.CallSite | undefined): Site | undefined {
  const map = findSourceMap(frame?.getFileName() ?? '');
  const origin = map?.findOrigin(frame?.getLineNumber() ?? 0, frame?.getColumnNumber() ?? 0);
  if (!origin || !('lineNumber' in origin)) return undefined;
  return {
    file: origin.fileName.replace('file://', ''),
    line: origin.lineNumber,
    column: origin.columnNumber,
  };
}

function compiledSite(): NodeJS.CallSite | undefined {
  const { prepareStackTrace } = Error;
  try {
    Error.prepareStackTrace = (_, frames) => frames;
    return (new Error().stack as unknown as NodeJS.CallSite[])[3];
  } finally {
    Error.prepareStackTrace = prepareStackTrace;
  }
}

/** As the stack trace has it: in a file that was not compiled, or under a loader that maps stack traces itself, as vitest's does. */
function tracedSite(): Site {
  const frame = (new Error().stack ?? '').split('\n')[4] ?? '';
  const found = /\(?((?:file:\/\/)?\/[^()]+):(\d+):(\d+)\)?$/.exec(frame.trim());
  if (!found) return nowhere;
  return { file: found[1]!.replace('file://', ''), line: Number(found[2]), column: Number(found[3]) };
}

/** A site's file is a path, or what is left of a file URL: escapes, and a loader's query. */
export function pathOf({ file }: Site): string {
  const path = file.split('?')[0]!;
  return path.includes('%') ? fileURLToPath(`file://${path}`) : path;
}
