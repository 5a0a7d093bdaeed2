// Columns of a terminal that texts take, which are not as many as characters: wide ones take two, marks none.
import { eastAsianWidth } from 'get-east-asian-width';

/** Columns of one code point: 0 for marks and what is not seen, 2 for East Asian wide ones and emoji. */
export function characterColumns(character: string): number {
  if (character === '' || /^[\p{M}\p{Cf}]$/u.test(character)) return 0;
  return eastAsianWidth(character.codePointAt(0)!);
}

/** Columns of the characters of a text, one after the other: one that is joined to the one before has none. */
export function columnMeter(): (character: string) => number {
  let joins = false;
  return (character) => {
    const columns = joins ? 0 : characterColumns(character);
    joins = character === '\u200d';
    return columns;
  };
}

export function columnsOf(text: string): number {
  const meter = columnMeter();
  return Array.from(text).reduce((sum, character) => sum + meter(character), 0);
}

/** The beginning of a text that takes so many columns, or all of it. */
export function withinColumns(text: string, columns: number): string {
  const meter = columnMeter();
  let filled = 0;
  let length = 0;
  for (const character of text) {
    filled += meter(character);
    if (filled > columns) break;
    length += character.length;
  }
  return text.slice(0, length);
}
