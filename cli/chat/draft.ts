// A message that is typed in several lines: between two """, or each line but the last ending in \.

export interface Draft {
  readonly lines: readonly string[];
  /** A """ is open. */
  readonly isQuoted: boolean;
}

export const noDraft: Draft = { lines: [], isQuoted: false };

/** A message that is whole. */
export interface Message {
  readonly text: string;
  /** Never a command: it was quoted, or has several lines. */
  readonly isText: boolean;
}

const quote = '"""';

/** The draft with one more line, or the message that this line ends. A pasted line has line ends of its own. */
export function addLine(
  draft: Draft,
  line: string,
): { readonly draft: Draft } | { readonly message: Message } {
  const { lines, isQuoted } = draft;
  const opens = lines.length === 0 && !isQuoted && !line.includes('\n') && line.trimStart().startsWith(quote);
  if (opens) {
    const first = line.trimStart().slice(quote.length);
    return addQuoted([], first, first.trim() === '');
  }
  if (isQuoted) return addQuoted(lines, line, false);
  if (line.endsWith('\\')) return { draft: { lines: [...lines, line.slice(0, -1)], isQuoted } };
  const text = [...lines, line].join('\n');
  return { message: { text, isText: text.trim().includes('\n') } };
}

/** @param isBare nothing stands behind the """ that opens */
function addQuoted(lines: readonly string[], line: string, isBare: boolean) {
  const end = line.trimEnd();
  if (!end.endsWith(quote)) return { draft: { lines: isBare ? lines : [...lines, line], isQuoted: true } };
  const last = end.slice(0, -quote.length);
  const all = last === '' && lines.length > 0 ? lines : [...lines, last];
  return { message: { text: all.join('\n'), isText: true } };
}
