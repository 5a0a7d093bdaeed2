// What changed between two texts, or two lists of lines.
import { diffArrays, structuredPatch } from 'diff';

export interface Hunk {
  /** Of the first line in each text, from 1 on. */
  readonly oldStart: number;
  readonly newStart: number;
  /** Each begins with `-`, `+` or a blank. */
  readonly lines: readonly string[];
}

/** Lines that stand around a change. */
const contextLines = 2;

/** The hunks of a unified diff, without its header; empty for equal texts. */
export function hunksOf(before: string, after: string): Hunk[] {
  const { hunks } = structuredPatch('', '', before, after, '', '', { context: contextLines });
  return hunks.map(({ oldStart, newStart, lines }) => ({ oldStart, newStart, lines }));
}

/** A hunk as `diff -u` prints it. */
export function hunkText({ oldStart, newStart, lines }: Hunk): string {
  const count = (other: string) => lines.filter((line) => !line.startsWith(other)).length;
  return [`@@ -${oldStart},${count('+')} +${newStart},${count('-')} @@`, ...lines].join('\n');
}

/** All lines of both lists in order, each with `-`, `+` or a blank before it; empty for equal lists. */
export function changedLines(before: readonly string[], after: readonly string[]): string[] {
  const changes = diffArrays([...before], [...after]);
  if (changes.every(({ added, removed }) => !added && !removed)) return [];
  return changes.flatMap(({ added, removed, value }) =>
    value.map((line) => `${added ? '+' : removed ? '-' : ' '} ${line}`),
  );
}
