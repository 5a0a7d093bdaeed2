// Text of tokens and files on a terminal: nothing in it is an order to the terminal.

/** Control characters, and marks that turn the direction of text, as source would write them: an escape becomes \x1b.
 *  Line ends and tabs stay. */
export const printable = (text: string): string =>
  text.replaceAll('\r\n', '\n').replace(/[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu, written);

/** The same as one line: a name with a line of its own would look like a line of ours. */
export const printableLine = (text: string): string => oneLine(printable(text));

/** Line ends as source would write them: a row of a table stays one. */
export const oneLine = (text: string): string => text.replace(/\r?\n/g, '\\n');

function written(character: string): string {
  if (character === '\n' || character === '\t') return character;
  const known = { '\r': '\\r', '\b': '\\b', '\0': '\\0' }[character];
  if (known !== undefined) return known;
  const code = character.charCodeAt(0);
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16)}`;
}
