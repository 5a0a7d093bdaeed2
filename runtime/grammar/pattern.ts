// A pattern of a schema as a grammar in EBNF: JSON texts that it matches, each of their characters as JSON writes it. It may allow less than the
// pattern: no escapes of \u, and no character that lengths are counted with. What cannot be followed is refused by name.
import { mostRepeats } from './keywords.ts';
import { fillerRanges } from './length-counter.ts';

/** First and last code point. */
type Range = readonly [first: number, last: number];

interface Writing {
  /** Adds a rule of this body, and gives its name. */
  readonly rule: (body: string) => string;
  /** So many of something; null: without end. */
  readonly repeated: (one: string, least: number, to: number | null) => string;
  /** @param why of the pattern */
  readonly refuse: (why: string) => Error;
}

/** Longer patterns, and groups in one another, take too long. */
const [mostCharacters, mostDeep] = [10_000, 100];
/** Of something that groups in one another repeat: where such texts can be read in many ways, a mask would never be made. */
const mostInGroups = 100_000;
const lastOfAll = 0x10ffff;
const digits: readonly Range[] = [[0x30, 0x39]];
const letters: readonly Range[] = [...digits, [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]];
const spaces: readonly Range[] = [
  ...([
    [0x09, 0x0d],
    [0x20, 0x20],
    [0xa0, 0xa0],
    [0x1680, 0x1680],
    [0x2000, 0x200a],
  ] as const),
  ...([
    [0x2028, 0x2029],
    [0x202f, 0x202f],
    [0x205f, 0x205f],
    [0x3000, 0x3000],
    [0xfeff, 0xfeff],
  ] as const),
];
const lineEnds: readonly Range[] = [
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
];
const sets: Readonly<Record<string, readonly Range[]>> = { d: digits, w: letters, s: spaces };
const controls: Readonly<Record<string, number>> = { 0: 0, t: 0x09, n: 0x0a, v: 0x0b, f: 0x0c, r: 0x0d };
/** What JSON writes as an escape of one letter; other control characters are not made. */
const escaped: readonly (readonly [code: number, text: string])[] = [
  ...([
    [0x22, '\\"'],
    [0x5c, '\\\\'],
    [0x08, '\\b'],
    [0x0c, '\\f'],
  ] as const),
  ...([
    [0x0a, '\\n'],
    [0x0d, '\\r'],
    [0x09, '\\t'],
  ] as const),
];
const neverPlain: readonly Range[] = [
  ...([
    [0, 0x1f],
    [0x22, 0x22],
    [0x5c, 0x5c],
    [0xd800, 0xdfff],
  ] as const),
  // Lengths are counted in texts whose characters are all alike.
  ...fillerRanges,
];
const everything: readonly Range[] = [[0, lastOfAll]];

/** All but these. */
function complement(ranges: readonly Range[]): Range[] {
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
function oneOf(ranges: readonly Range[]): string | null {
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

/** The body of a rule of the texts, without their quotes. */
export function patternBody(pattern: string, { rule, repeated, refuse }: Writing): string {
  if (pattern.length > mostCharacters) throw refuse(`it has more than ${mostCharacters} characters`);
  let at = 0;
  let depth = 0;
  /** Of something in the atom or the sequence that was read last, by its groups. */
  let times = 1;
  const take = (form: RegExp): RegExpExecArray | null => {
    form.lastIndex = at;
    const found = form.exec(pattern);
    at += found?.[0].length ?? 0;
    return found;
  };
  const unsupported = (what: string) => refuse(`${what} in it is not supported`);

  /** Behind a backslash: characters. */
  const escaping = (isInClass: boolean): readonly Range[] => {
    const [, set] = take(/([dswDSW])/uy) ?? [];
    if (set !== undefined) {
      const ranges = sets[set.toLowerCase()]!;
      return set === set.toLowerCase() ? ranges : complement(ranges);
    }
    const [, hex = '', short = '', long = ''] =
      take(/x([\da-fA-F]{2})|u([\da-fA-F]{4})|u\{([\da-fA-F]+)\}/uy) ?? [];
    const digits = hex + short + long;
    const [, control] = digits === '' ? (take(/([tnvfr]|0(?!\d))/uy) ?? []) : [];
    const code = digits === '' ? controls[control ?? ''] : Number.parseInt(digits, 16);
    if (isInClass && code === undefined && take(/b/uy)) return [[0x08, 0x08]];
    if (code === undefined) {
      const [sign] = take(/[^A-Za-z0-9]/uy) ?? [];
      if (sign === undefined) throw unsupported(`\\${pattern.slice(at, at + 1)}`);
      return [[sign.codePointAt(0)!, sign.codePointAt(0)!]];
    }
    if (code >= 0xd800 && code <= 0xdfff) throw unsupported('half of a character');
    return [[code, code]];
  };

  const member = (): readonly Range[] => {
    if (take(/\\/uy)) return escaping(true);
    const code = take(/./suy)![0].codePointAt(0)!;
    return [[code, code]];
  };
  /** Behind its opening bracket. */
  const set = (): readonly Range[] => {
    const isNegated = take(/\^/uy) !== null;
    const ranges: Range[] = [];
    while (!take(/\]/uy)) {
      const first = member();
      const isRange = first.length === 1 && first[0]![0] === first[0]![1] && take(/-(?!\]|\\[dswDSW])/uy);
      const last = isRange ? member() : first;
      if (isRange) ranges.push([first[0]![0], last[0]![0]]);
      else ranges.push(...first);
    }
    return isNegated ? complement(ranges) : ranges;
  };

  const atom = (): string => {
    const [group] = take(/\((?:\?(?::|<(?![=!])[^>]*>))?/uy) ?? [];
    if (group !== undefined) {
      if (group === '(' && take(/\?/uy)) throw unsupported(`(?${pattern.slice(at, at + 1)}`);
      if (++depth > mostDeep) throw refuse(`groups in it nest more than ${mostDeep} deep`);
      const inside = choices(false);
      depth--;
      take(/\)/uy);
      return rule(inside.join(' | '));
    }
    times = 1;
    const [sign] = take(/./suy)!;
    const ranges =
      sign === '.'
        ? complement(lineEnds)
        : sign === '['
          ? set()
          : sign === '\\'
            ? escaping(false)
            : ([[sign!.codePointAt(0)!, sign!.codePointAt(0)!]] as const);
    const made = oneOf(ranges);
    if (made === null) throw refuse('it asks for characters that are never made');
    return made;
  };

  let any: string | undefined;
  const anyRule = (): string => (any ??= rule(oneOf(everything)!));
  /** @param isTop anchors may stand around it */
  const sequence = (isTop: boolean): string => {
    const begins = isTop && take(/\^/uy) !== null;
    const parts: string[] = [];
    let ends = false;
    let mostTimes = 1;
    while (at < pattern.length && !/[|)]/.test(pattern[at]!)) {
      if (isTop && take(/\$(?=\||$)/uy)) {
        ends = true;
        break;
      }
      const [anchor] = take(/[$^]/uy) ?? [];
      if (anchor !== undefined) throw refuse(`the anchor ${anchor} stands inside of it`);
      const one = atom();
      const [count, exactly, more, most] = take(/(?:[*+?]|\{(\d+)(,(\d*))?\})\??/uy) ?? [];
      if (count === undefined) {
        mostTimes = Math.max(mostTimes, times);
        parts.push(one);
        continue;
      }
      const least = exactly === undefined ? Number(count[0] === '+') : Number(exactly);
      const to =
        exactly === undefined ? (count[0] === '?' ? 1 : null) : more ? Number(most || Number.NaN) : least;
      if (least > mostRepeats) throw refuse(`it asks for more than ${mostRepeats} of something`);
      const last = to === null || Number.isNaN(to) ? null : Math.min(to, mostRepeats);
      mostTimes = Math.max(mostTimes, times * Math.max(1, last ?? least));
      if (mostTimes > mostInGroups)
        throw refuse(`it asks for more than ${mostInGroups} of something in groups`);
      parts.push(repeated(one, least, last));
    }
    times = mostTimes;
    const around = (isAnchored: boolean) => (isTop && !isAnchored ? [`${anyRule()}*`] : []);
    const whole = [...around(begins), ...parts, ...around(ends)];
    const text = whole.filter((part) => part !== '').join(' ');
    return text === '' ? '""' : text;
  };
  const choices = (isTop: boolean): string[] => {
    const all = [sequence(isTop)];
    let mostTimes = times;
    while (take(/\|/uy)) {
      all.push(sequence(isTop));
      mostTimes = Math.max(mostTimes, times);
    }
    times = mostTimes;
    return all;
  };
  return choices(true)
    .map((text) => `(${text})`)
    .join(' | ');
}
