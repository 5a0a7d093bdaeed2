// Text of tokens and files on a terminal: nothing in it is an order to the terminal.

const orders = /[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu;

/** Control characters, and marks that turn the direction of text, as source would write them: an escape becomes \x1b.
 *  Line ends and tabs stay. */
export const printable = (text: string): string => text.replaceAll('\r\n', '\n').replace(orders, written);

/** Letters of a line: a file of strangers may have names of a megabyte. */
const mostOfLine = 4000;

/** The same as one line: a name with a line of its own would look like a line of ours. Of a very long one the middle is left out. */
export function printableLine(text: string): string {
  const left = text.length - mostOfLine;
  const half = mostOfLine / 2;
  const short = left > 0 ? `${text.slice(0, half)} [${left} letters] ${text.slice(-half)}` : text;
  return oneLine(printable(short));
}

/** Line ends as source would write them: a row of a table stays one. */
export const oneLine = (text: string): string => text.replace(/\r?\n/g, '\\n');

/** A line of JSON. What JSON leaves as it is, from \x7f on, a terminal gets in escapes of JSON: the value is the same. */
export function jsonLine(value: unknown, isTty: boolean): string {
  const text = JSON.stringify(value);
  const escaped = (character: string) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return `${isTty ? text.replace(orders, escaped) : text}\n`;
}

function written(character: string): string {
  if (character === '\n' || character === '\t') return character;
  const known = { '\r': '\\r', '\b': '\\b', '\0': '\\0' }[character];
  if (known !== undefined) return known;
  const code = character.charCodeAt(0);
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16)}`;
}
