// Breaks text that comes in pieces between its words, where a terminal would break inside one.
import { characterColumns, columnMeter, withinColumns } from './columns.ts';

/** A line is broken at spaces, beside wide characters, and inside a word only if the word alone is wider than a line.
 *  Spaces at a break are dropped. Words are held until they end.
 *  @param columns of the terminal, asked for each word: a window may change */
export function wordWrap(columns: () => number) {
  /** Columns of the line that are filled. */
  let filled = 0;
  /** Spaces after them that are not written yet, and the word after those. */
  let gap = '';
  let word = '';
  let wordWidth = 0;
  const meter = columnMeter();

  const place = (): string => {
    if (word === '') return '';
    const after = filled + widthOfGap(gap, filled);
    const fits = after + wordWidth <= columns();
    const placed = fits ? gap + word : (filled > 0 ? '\n' : '') + word;
    filled = fits ? after + wordWidth : wordWidth;
    gap = '';
    word = '';
    wordWidth = 0;
    return placed;
  };
  const take = (character: string): string => {
    if (character === '\n') {
      const line = `${place()}\n`;
      gap = '';
      filled = 0;
      return line;
    }
    if (character === ' ' || character === '\t') {
      const before = place();
      gap += character;
      return before;
    }
    const width = meter(character);
    const breaks = width > 1 || (width > 0 && lastIsWide(word)) || wordWidth + width > columns();
    const before = breaks ? place() : '';
    word += character;
    wordWidth += width;
    return before;
  };
  return {
    /** What can be written now. */
    push: (text: string): string => Array.from(text, take).join(''),
    /** What was held; without the spaces at the end. */
    end: (): string => place(),
  };
}

/** Rows that are wider than a terminal go on below, indented, from the last gap before its edge. A text of one line stays as it is: it may
 *  be a path, which is copied. */
export function foldRows(text: string, columns: number): string {
  const rows = text.split('\n');
  return rows.length === 1 ? text : rows.map((row) => folded(row, columns)).join('\n');
}

const below = '    ';

function folded(row: string, columns: number): string {
  const { length } = withinColumns(row, columns);
  if (length === row.length) return row;
  const start = row.search(/\S/);
  const gap = row.slice(0, length + 1).lastIndexOf(' ');
  if (gap <= start) return row;
  return `${row.slice(0, gap).trimEnd()}\n${folded(below + row.slice(gap).trimStart(), columns)}`;
}

const lastIsWide = (word: string): boolean => characterColumns(Array.from(word)[0] ?? '') > 1;

/** A tab goes on to the next multiple of eight. */
function widthOfGap(gap: string, from: number): number {
  let at = from;
  for (const character of gap) at = character === '\t' ? (Math.floor(at / 8) + 1) * 8 : at + 1;
  return at - from;
}
