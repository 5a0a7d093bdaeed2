// Classes of characters beyond ASCII, as alternatives of bytes: xgrammar 0.1.27 takes the low byte of such a character for the character, so that
// [а-я] allows nothing, [^é] an é, and the dot of a regular expression half of one.
import { OnelaunchError } from '../../errors.ts';

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

/** What escapes stand for, to be written in a class: of those that are all but another one xgrammar 0.1.27 takes ASCII alone there. */
const sets: Readonly<Record<string, string>> = {
  d: '0-9',
  D: String.raw`\x00-/:-\u{10ffff}`,
  s: String.raw`\t-\r `,
  S: String.raw`\x00-\x08\x0e-\x1f!-\u{10ffff}`,
  w: 'a-zA-Z0-9_',
  W: String.raw`\x00-/:-@\[-^\x60{-\u{10ffff}`,
};
/** Such an escape with the dashes around it, which are no ranges; or another one. */
const setIn = /(-?)\\([dDsSwW])(-?)|\\./gs;

/** A class of a regular expression without such escapes. */
const spelledOut = (group: string): string =>
  group.replaceAll(setIn, (whole, before?: string, letter?: string, behind?: string) =>
    letter === undefined ? whole : `${before && '\\-'}${sets[letter]}${behind && '\\-'}`,
  );

/** The same grammar, with what its classes have beyond ASCII as bytes of UTF-8.
 *  @throws OnelaunchError of kind usage for half of a character, a range that ends before it begins, a class of no characters or with an escape that is none, or an anchor inside of a regular expression */
export function withClassesOfBytes(text: string, kind: keyof typeof pieces): string {
  if (/\p{Surrogate}/u.test(text))
    throw refusal('half of a character stands in it', 'A pair of surrogates is one.');
  if (kind === 'regex') checkAnchors(text);
  return text.replaceAll(pieces[kind], (piece: string, group?: string) => {
    if (group === undefined) return piece;
    if (group === '.') return '[^\\n\\r]';
    if (kind === 'regex' && all.test(group)) return '[^]';
    const made = asciiClass(kind === 'regex' ? spelledOut(group) : group, kind);
    if (made === null) throw refusal(`the class ${group} has no characters`, 'Leave it out.');
    return made;
  });
}

/** An escape, a class, or a character. */
const words = /\\.|\[\^?(?:\\.|[^\]\\])*\]|./gsu;

/** That anchors stand where the reply begins and ends, around an alternative of the whole: elsewhere xgrammar 0.1.27 leaves them out. */
function checkAnchors(text: string): void {
  const all = text.match(words) ?? [];
  let depth = 0;
  for (const [i, word] of all.entries()) {
    if (word === '(') depth++;
    else if (word === ')') depth--;
    else if (word === '^' || word === '$') {
      const beside = word === '^' ? all[i - 1] : all[i + 1];
      if (depth === 0 && (beside === undefined || beside === '|')) continue;
      throw refusal(
        `the anchor ${word} stands elsewhere than at its ${word === '^' ? 'beginning' : 'end'}`,
        'Leave it out: the expression is the whole reply. As a character it is \\^ or \\$.',
      );
    }
  }
}

/** Null: the class has no characters. */
function asciiClass(group: string, kind: keyof typeof pieces): string | null {
  const isNegated = group.startsWith('[^');
  const members = [...group.slice(isNegated ? 2 : 1, -1).matchAll(member)].map(readMember);
  const ascii: string[] = [];
  const ranges: Range[] = [];
  for (let at = 0; at < members.length; at++) {
    const { text, code: first } = members[at]!;
    const isRange = members[at + 1]?.text === '-' && at + 2 < members.length;
    const { text: endText, code: last } = isRange ? members[at + 2]! : members[at]!;
    if (isRange) at += 2;
    ranges.push([first, last]);
    if (last <= lastOfAscii) ascii.push(isRange ? `${text}-${endText}` : text);
    else if (first <= lastOfAscii) ascii.push(`${text}-\\x${lastOfAscii.toString(16)}`);
  }
  if (ranges.every(([, last]) => last <= lastOfAscii)) return group;
  if (ranges.some(([first, last]) => first > last))
    throw refusal(`a range of ${group} ends before it begins`, 'Turn it round.');
  if (!isNegated) return alternatives(ascii, within(ranges, lastOfAscii + 1, lastOfAll), kind);
  if (ranges.some(([first]) => first < 0))
    throw refusal(`${group} has an escape that is no character`, 'Write it as a code, such as \\x08.');
  const others = complement(ranges);
  const ofAscii = within(others, 0, lastOfAscii).map((range) => range.map(hex).join('-'));
  return alternatives(ofAscii, within(others, lastOfAscii + 1, lastOfAll), kind);
}

/** First and last code point, or byte. */
type Range = readonly [first: number, last: number];

const within = (ranges: readonly Range[], least: number, most: number): Range[] =>
  ranges
    .map(([first, last]): Range => [Math.max(first, least), Math.min(last, most)])
    .filter(([first, last]) => first <= last);

/** What is in none of the ranges, in order. */
function complement(ranges: readonly Range[]): Range[] {
  const sorted = ranges.toSorted(([a], [b]) => a - b);
  let next = 0;
  const before = sorted.map(([first, last]): Range => {
    const gap: Range = [next, first - 1];
    next = Math.max(next, last + 1);
    return gap;
  });
  return within([...before, [next, lastOfAll]], 0, lastOfAll);
}

function alternatives(
  ascii: readonly string[],
  others: readonly Range[],
  kind: keyof typeof pieces,
): string | null {
  const spell = (code: number) => {
    const letter = String.fromCodePoint(code);
    return kind === 'ebnf' ? JSON.stringify(letter) : letter;
  };
  const spelled = others.flatMap(([first, last]) => {
    if (first === last) return [spell(first)];
    if (first === lastOfAscii + 1 && last === lastOfAll) return [allOthers];
    return utf8Of([first, last]).map((bytes) => bytes.map(byteClass).join(kind === 'ebnf' ? ' ' : ''));
  });
  const all = [...(ascii.length > 0 ? [`[${ascii.join('')}]`] : []), ...spelled];
  return all.length === 0 ? null : `(${all.join('|')})`;
}

const hex = (code: number): string => `\\x${code.toString(16).padStart(2, '0')}`;

/** A class of more than one letter beyond ASCII, which xgrammar 0.1.27 takes for bytes; of one it makes that letter, so that one byte is
 *  written as two letters which both end in it. */
const byteClass = ([first, last]: Range): string =>
  first === last ? `[${hex(first)}\\u01${hex(first).slice(2)}]` : `[${hex(first)}-${hex(last)}]`;

/** Code points beyond ASCII as sequences of ranges of bytes: where a byte has a range, all behind it have all. Halves of characters are left out. */
function utf8Of([first, last]: Range): Range[][] {
  const [firstHalf, lastHalf] = [0xd800, 0xdfff];
  if (first <= lastHalf && last >= firstHalf) {
    return within([[first, last]], 0, firstHalf - 1)
      .concat(within([[first, last]], lastHalf + 1, lastOfAll))
      .flatMap(utf8Of);
  }
  const cut = (end: number) => [...utf8Of([first, end]), ...utf8Of([end + 1, last])];
  for (const longest of [0x7ff, 0xffff]) if (first <= longest && last > longest) return cut(longest);
  for (const bits of [6, 12, 18]) {
    const low = 2 ** bits - 1;
    if (first >> bits === last >> bits) break;
    if ((first & low) !== 0) return cut(first | low);
    if ((last & low) !== low) return cut((last & ~low) - 1);
  }
  const [a, b] = [first, last].map((code) => Buffer.from(String.fromCodePoint(code)));
  return [[...a!].map((byte, at): Range => [byte, b![at]!])];
}

/** What letters stand for behind a backslash. */
const controls: Readonly<Record<string, number>> = { 0: 0, b: 8, t: 9, n: 10, v: 11, f: 12, r: 13 };

/** What stands in a class, and its code point; -1: of an escape that is none. */
function readMember([text, ...groups]: RegExpExecArray): { readonly text: string; readonly code: number } {
  const digits = groups.slice(0, 4).find((one) => one !== undefined);
  const [escaped, plain] = groups.slice(4);
  const code =
    digits !== undefined ? Number.parseInt(digits, 16) : (plain?.codePointAt(0) ?? controls[escaped!]);
  return { text, code: code ?? (/\w/.test(escaped!) ? -1 : escaped!.codePointAt(0)!) };
}

/** What a grammar is refused with. */
export const refusal = (why: string, hint: string, cause?: unknown): OnelaunchError =>
  new OnelaunchError('usage', `the grammar cannot be used: ${why}`, { hint, cause, option: ['grammar'] });
