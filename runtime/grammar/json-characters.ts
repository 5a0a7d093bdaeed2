// Characters of a text of JSON, as a grammar in EBNF has them.
import { fillerRanges } from './length-counter.ts';

/** First and last code point. */
export type Range = readonly [first: number, last: number];

const lastOfAll = 0x10ffff;
const digits: readonly Range[] = [[0x30, 0x39]];
const letters: readonly Range[] = [...digits, [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]];
const spaces: readonly Range[] = [
  [0x09, 0x0d],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
];
const lineEnds: readonly Range[] = [
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
];
/** What a dot and the classes of a regular expression stand for. */
export const sets = { any: complement(lineEnds), digit: digits, word: letters, space: spaces };
/** What JSON writes as an escape of one letter; other control characters are not made. */
const escaped: readonly (readonly [code: number, text: string])[] = [
  [0x22, '\\"'],
  [0x5c, '\\\\'],
  [0x08, '\\b'],
  [0x0c, '\\f'],
  [0x0a, '\\n'],
  [0x0d, '\\r'],
  [0x09, '\\t'],
];
const neverPlain: readonly Range[] = [
  [0, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
  [0xd800, 0xdfff],
  // Lengths are counted in texts whose characters are all alike.
  ...fillerRanges,
];
export const everything: readonly Range[] = [[0, lastOfAll]];

/** All but these. */
export function complement(ranges: readonly Range[]): Range[] {
  const made: Range[] = [];
  let next = 0;
  for (const [first, last] of ranges.toSorted(([a], [b]) => a - b)) {
    if (first > next) made.push([next, first - 1]);
    next = Math.max(next, last + 1);
  }
  return next <= lastOfAll ? [...made, [next, lastOfAll]] : made;
}

/** Never as a letter: of one behind an escape xgrammar 0.1.27 makes a part of that. */
const written = (code: number): string => {
  const hex = code.toString(16);
  return code <= 0x7f ? `\\x${hex.padStart(2, '0')}` : `\\u{${hex}}`;
};

/** One of these characters, as JSON has it; null: none of them is ever made. */
export function oneOf(ranges: readonly Range[]): string | null {
  const named = escaped.filter(([code]) => ranges.some(([first, last]) => first <= code && code <= last));
  const plain = complement([...complement(ranges), ...neverPlain]);
  const [[only, last] = [0, 0], ...others] = plain;
  const members = plain.map((range) => range.map(written).join('-'));
  const ways = [
    ...named.map(([, text]) => JSON.stringify(text)),
    ...(plain.length === 0
      ? []
      : [
          others.length === 0 && only === last
            ? JSON.stringify(String.fromCodePoint(only))
            : `[${members.join('')}]`,
        ]),
  ];
  return ways.length > 1 ? `(${ways.join(' | ')})` : (ways[0] ?? null);
}
