// Classes of characters beyond ASCII, as alternatives: xgrammar 0.1.27 takes the low byte of such a character for the character, so that
// [а-я] allows nothing, [^é] an é, and the dot of a regular expression half of one.
import { OnelaunchError } from '../errors.ts';

/** More alternatives than the letters of any script but ideographs have. */
const mostCharacters = 1000;
const lastOfAscii = 0x7f;
const lastOfAll = 0x10ffff;
const allOthers = '[^\\x00-\\x7f]';

/** A string, a comment or a class of EBNF; an escape, a class or a dot of a regular expression. */
const pieces = {
  ebnf: /"(?:\\.|[^"\\])*"|#[^\n]*|(\[\^?(?:\\.|[^\]\\])*\])/gsu,
  regex: /\\.|(\[\^?(?:\\.|[^\]\\])*\]|\.)/gsu,
};
/** An escape of several letters, one of a single letter, or a character. */
const member = /\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|u\{([0-9a-fA-F]+)\}|(.))|(.)/gsu;
/** All that there is, as it is usually written. */
const all = /^\[(\\s\\S|\\S\\s|\\d\\D|\\D\\d|\\w\\W|\\W\\w)\]$/;

/** The same grammar, whose classes are of ASCII alone. @throws OnelaunchError of kind usage for one that has too many others, or has all but some */
export function withAsciiClasses(text: string, kind: keyof typeof pieces): string {
  if (/\p{Surrogate}/u.test(text))
    throw refusal('half of a character stands in it', 'A pair of surrogates is one.');
  return text.replaceAll(pieces[kind], (piece: string, group?: string) => {
    if (group === undefined) return piece;
    if (group === '.') return '[^\\n\\r]';
    if (kind === 'regex' && all.test(group)) return '[^]';
    return asciiClass(group, kind);
  });
}

function asciiClass(group: string, kind: keyof typeof pieces): string {
  const isNegated = group.startsWith('[^');
  const members = [...group.slice(isNegated ? 2 : 1, -1).matchAll(member)].map(readMember);
  const ascii: string[] = [];
  const others: string[] = [];
  const spell = (letter: string) => (kind === 'ebnf' ? JSON.stringify(letter) : letter);
  for (let at = 0; at < members.length; at++) {
    const { text, code: first } = members[at]!;
    const isRange = members[at + 1]?.text === '-' && at + 2 < members.length;
    const { text: endText, code: last } = isRange ? members[at + 2]! : members[at]!;
    if (isRange) at += 2;
    const spelled = isRange ? `${text}-${endText}` : text;
    if (last <= lastOfAscii) {
      ascii.push(spelled);
      continue;
    }
    if (isNegated)
      throw refusal(`${group} has all characters but some beyond ASCII`, 'Name those that may come.');
    if (first <= lastOfAscii) ascii.push(`${text}-\\x${lastOfAscii.toString(16)}`);
    const begin = Math.max(first, lastOfAscii + 1);
    if (begin === lastOfAscii + 1 && last === lastOfAll) {
      others.push(allOthers);
      continue;
    }
    if (last - begin + 1 + others.length > mostCharacters) {
      throw refusal(
        `${group} has more than ${mostCharacters} characters beyond ASCII`,
        `A class ${allOthers} has all of them.`,
      );
    }
    for (let code = begin; code <= last; code++) others.push(spell(String.fromCodePoint(code)));
  }
  if (others.length === 0) return group;
  const rest = ascii.length > 0 ? [`[${ascii.join('')}]`] : [];
  return `(${[...rest, ...others].join('|')})`;
}

/** What stands in a class, and its code point; -1: a class of its own, as \d. */
function readMember([text, ...groups]: RegExpExecArray): { readonly text: string; readonly code: number } {
  const hex = groups.slice(0, 4).find((digits) => digits !== undefined);
  const [escaped, plain] = groups.slice(4);
  const code = hex !== undefined ? Number.parseInt(hex, 16) : plain?.codePointAt(0);
  return { text, code: code ?? (/\w/.test(escaped!) ? -1 : escaped!.codePointAt(0)!) };
}

/** What a grammar is refused with. */
export const refusal = (why: string, hint: string, cause?: unknown): OnelaunchError =>
  new OnelaunchError('usage', `the grammar cannot be used: ${why}`, { hint, cause });
