// Breaks text that comes in pieces between its words, where a terminal would break inside one.
import { characterColumns, columnMeter, columnsOf, withinColumns } from './columns.ts';

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

/** Rows that are wider than a terminal go on below, indented: those of a table all from the same columns on, others from the last gap before
 *  the edge. A text of one line stays as it is: it may be a path, which is copied. */
export function foldRows(text: string, columns: number): string {
  if (!text.includes('\n')) return text;
  return text
    .split(/(\n{2,})/)
    .map((part) => foldPart(part.split('\n'), columns).join('\n'))
    .join('');
}

const below = '    ';

/** @param rows between empty ones */
function foldPart(rows: readonly string[], columns: number): string[] {
  if (rows.every((row) => columnsOf(row) <= columns)) return [...rows];
  const starts = rows.length > 1 ? columnStarts(rows) : [];
  const cuts: number[] = [];
  for (const [i, start] of starts.entries()) {
    const next = starts[i + 1] ?? Math.max(...rows.map(columnsOf));
    const used = cuts.length === 0 ? next : next - cuts.at(-1)! + below.length;
    // A column that no line holds stays where it is.
    const fits = next - start + below.length <= columns;
    if (fits && used > columns) cuts.push(start);
  }
  return rows.flatMap((row) =>
    [0, ...cuts].flatMap((cut, i) => {
      const part = row.slice(cut, cuts[i]).trimEnd();
      if (part === '' && row !== '') return [];
      return [folded(i === 0 ? part : below + part, columns)];
    }),
  );
}

/** Where columns of a table begin: behind two columns and more that are blank in all rows. */
function columnStarts(rows: readonly string[]): number[] {
  const width = Math.max(...rows.map((row) => row.length));
  const isBlank = (at: number) => rows.every((row) => (row[at] ?? ' ') === ' ');
  const starts: number[] = [];
  for (let at = 2; at < width; at++) {
    if (isBlank(at - 2) && isBlank(at - 1) && !isBlank(at)) starts.push(at);
  }
  return starts;
}

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
