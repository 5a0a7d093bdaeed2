// Text of strangers on a terminal: names in files, tokens of a model.

/** The text with control characters as they are written in a program, such as \x1b: raw, a terminal would obey them. Lines
 *  and tabs stay. */
export function printable(text: string): string {
  return text.replace(/[^\P{Cc}\n\t]/gu, (control) => {
    const known = { '\r': '\\r', '\b': '\\b', '\0': '\\0' }[control];
    return known ?? `\\x${control.codePointAt(0)!.toString(16).padStart(2, '0')}`;
  });
}
