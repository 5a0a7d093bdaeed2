// What a terminal sends, taken apart: keys, pasted text, and the two keys that are obeyed at once.

export type Key =
  /** Keys for the line; Enter is the last of them if it is among them. */
  | { readonly keys: string }
  /** Text that goes into the line as it is, line ends and all. */
  | { readonly paste: string }
  | 'interrupt'
  | 'suspend';

/** Asks the terminal to mark what is pasted, and no longer to. */
export const markPastes = { on: '\u001b[?2004h', off: '\u001b[?2004l' } as const;

const pasteStart = '\u001b[200~';
const pasteEnd = '\u001b[201~';
const ctrlC = '\u0003';
const ctrlZ = '\u001a';

/** Takes the terminal's text in chunks, which may end inside a mark. */
export function keyReader(): (chunk: string) => readonly Key[] {
  /** The beginning of a mark at the end of the last chunk. */
  let begun = '';
  let pasted: string | null = null;
  return (chunk) => {
    if (pasted !== null && chunk === ctrlC) {
      // A paste whose end never came.
      pasted = null;
      begun = '';
      return ['interrupt'];
    }
    const found: Key[] = [];
    let text = begun + chunk;
    begun = '';
    while (text !== '') {
      const mark = pasted === null ? pasteStart : pasteEnd;
      const at = text.indexOf(mark);
      const end = at < 0 ? text.length - overlap(text, mark) : at;
      const before = text.slice(0, end);
      if (pasted === null) found.push(...typed(before));
      else pasted += before;
      if (at < 0) {
        begun = text.slice(end);
        break;
      }
      if (pasted !== null) found.push({ paste: pasted });
      pasted = pasted === null ? '' : null;
      text = text.slice(at + mark.length);
    }
    return found;
  };
}

/** How many characters at the end of a text are the beginning of a mark. */
function overlap(text: string, mark: string): number {
  let length = Math.min(text.length, mark.length - 1);
  while (length > 0 && !text.endsWith(mark.slice(0, length))) length--;
  return length;
}

function typed(text: string): Key[] {
  const found: Key[] = [];
  let keys = '';
  const flush = () => {
    if (keys !== '') found.push({ keys });
    keys = '';
  };
  for (const character of text) {
    const isEnter = character === '\r' || character === '\n';
    if (character === ctrlC || character === ctrlZ) {
      flush();
      found.push(character === ctrlC ? 'interrupt' : 'suspend');
    } else if (isEnter && keys.endsWith('\u001b')) {
      // Alt-Enter.
      keys = keys.slice(0, -1);
      flush();
      found.push({ paste: '\n' });
    } else {
      keys += character;
      if (isEnter) flush();
    }
  }
  flush();
  return found;
}

/** Stand for a line end and a tab inside a line that is edited: no text has these characters. */
const standsFor = { lineEnd: '\ufdd0', tab: '\ufdd1' } as const;

/** Pasted text as part of one line. Other control characters are left out. */
export const toLine = (text: string): string =>
  text
    .replaceAll(/[\ufdd0\ufdd1]/g, '')
    .replaceAll(/\r\n?|\n|\u2028|\u2029/g, standsFor.lineEnd)
    .replaceAll('\t', standsFor.tab)
    .replaceAll(/\p{Cc}/gu, '');

/** The text of a line. */
export const fromLine = (line: string): string =>
  line.replaceAll(standsFor.lineEnd, '\n').replaceAll(standsFor.tab, '\t');

/** A line as it is shown; each character stays one column wide. */
export const shownLine = (line: string): string =>
  line.replaceAll(standsFor.lineEnd, '↵').replaceAll(standsFor.tab, '⇥');
