// Bounds of lengths, kept beside a grammar that has none: a mask of texts of any length, less what is too long or ends too soon. What a text
// may still have is asked of the grammar with the bounds, byte by byte: that costs little, where its mask of all tokens costs 0.1 s.
import { OnelaunchError } from '../../errors.ts';
import { forbid, isAllowed } from '../engine/token-masks.ts';
import { type MeasuredToken, measure, type Vocabulary } from './token-lengths.ts';

/** A grammar in two forms that differ in the lengths of texts in JSON alone. Neither has two ways to read a beginning in which a text has
 *  bounds, so that each place of one is a place of the other. */
export interface BoundedGrammar {
  readonly exact: string;
  /** Its texts have no bounds. */
  readonly loose: string;
  /** What stands between words of any kind and the first text that has bounds; null: there are no such words. */
  readonly entry: string | null;
}

/** A place in the words of a grammar, byte by byte. */
export interface ByteMatcher {
  /** Whether they may go on so; if not, the place stays. */
  accept(byte: number): boolean;
  /** @param bytes at least 1 */
  back(bytes: number): void;
}

export interface LengthCounter {
  /** To be called with each token that was chosen. */
  push(token: number): void;
  /** Takes from a mask of the loose grammar what the exact one does not allow. */
  narrow(words: Int32Array): void;
  /** What goes back to this place, behind tokens that were pushed since. To be called before another is asked for. */
  mark(): () => void;
}

/** What a text may still have [characters], from its next whole character on. */
interface Room {
  readonly least: number;
  readonly most: number;
  /** Whether that is known; else either may be more. */
  readonly isAll: boolean;
}

type Bytes = Uint8Array | readonly number[];

const [newline, quote, backslash, endOfEscape] = [0x0a, 0x22, 0x5c, 0x6e];
/** Characters to count with: one of them is in no grammar that anyone writes. Texts of a pattern have none, so that they are not counted. */
export const fillerRanges: readonly (readonly [first: number, last: number])[] = [
  [0x7f, 0x7f],
  [0xe000, 0xf8ff],
];
export const fillers: readonly string[] = fillerRanges.flatMap(([first, last]) =>
  Array.from({ length: last - first + 1 }, (_, i) => String.fromCodePoint(first + i)),
);
const continuations = Array.from({ length: 64 }, (_, i) => 0x80 + i);

/** @param exact at its beginning, as loose is
 *  @param filler a character, in UTF-8, that stands in none of their rules
 *  @param entry as of BoundedGrammar */
export function countLengths(
  vocabulary: Vocabulary,
  { exact, loose }: { readonly exact: ByteMatcher; readonly loose: ByteMatcher },
  filler: readonly number[],
  entry: string | null,
): LengthCounter {
  const { longest } = vocabulary.lengths(false);
  const entering =
    entry === null
      ? []
      : vocabulary.quoted.flatMap(({ tokens }) => tokens.filter(({ bytes }) => holds(bytes, entry)));

  /** Of the text that the exact grammar is in. @param enough more need not be known */
  const roomHere = (enough: number): Room => {
    let [least, most]: [number | null, number] = [null, 0];
    while (true) {
      if (least === null && fits(exact, [quote])) least = most;
      if (most === enough || !go(exact, filler)) break;
      most++;
    }
    if (most > 0) exact.back(most * filler.length);
    return { least: least ?? most, most, isAll: least !== null && most < enough };
  };

  /** What ends a character of a text that this byte is of; null: this is in no text. */
  const restOf = (last: number): Bytes | null => {
    if (fits(loose, filler)) return [];
    if (last === backslash) return fits(loose, [endOfEscape, ...filler]) ? [endOfEscape] : null;
    const more = (rest: Bytes): Bytes | null => {
      // Where one character leads into a text, all do.
      const byte = continuations.find((each) => fits(loose, [...rest, each]));
      if (byte === undefined) return null;
      const longer = [...rest, byte];
      return fits(loose, [...longer, ...filler]) ? longer : longer.length < 3 ? more(longer) : null;
    };
    return last < 0x80 ? null : more([]);
  };

  /** Where the reply is: at words of any kind, in a text, in the middle of an escape of it, or elsewhere in JSON. */
  let place: 'words' | 'text' | 'escape' | 'json' = 'json';
  let room: Room = { least: 0, most: 0, isAll: true };
  /** Bytes that were pushed. */
  let length = 0;

  const look = (last: number): void => {
    if (entry !== null && fits(loose, [newline])) {
      place = 'words';
      return;
    }
    const rest = restOf(last);
    place = rest === null ? 'json' : rest[0] === endOfEscape ? 'escape' : 'text';
    if (rest !== null) room = behind(exact, rest, () => roomHere(2 * longest))!;
  };
  look(0);

  /** Whether a text of that room may go on with a token, and JSON behind it. */
  const mayCome = ({ least, most }: Room, { characters, end, goesOn, bytes }: MeasuredToken): boolean =>
    characters <= most && (end < 0 || (characters >= least && (!goesOn || fits(exact, bytes))));

  const narrowJson = (words: Int32Array): void => {
    for (const { head, tokens } of vocabulary.quoted) {
      const asked = tokens.filter(({ id }) => isAllowed(words, id));
      if (asked.length === 0) continue;
      const enough = 1 + Math.max(...asked.map(({ characters }) => characters));
      const begun = behind(exact, head, () => roomHere(enough));
      const isText = begun !== undefined && begun.most > 0;
      for (const token of asked) {
        if (isText ? mayCome(begun, token) : fits(exact, token.bytes)) continue;
        forbid(words, token.id);
      }
    }
  };

  const narrowText = (words: Int32Array): void => {
    const { within, ending, goingOn, longest } = vocabulary.lengths(place === 'escape');
    const { least, most } = room;
    if (most < longest) {
      const short = within[most]!;
      for (let i = 0; i < words.length; i++) words[i]! &= short[i]!;
    }
    if (least > 0) {
      const early = ending[Math.min(least - 1, longest)]!;
      for (let i = 0; i < words.length; i++) words[i]! &= ~early[i]!;
    }
    for (const { id, bytes } of goingOn) if (isAllowed(words, id) && !fits(exact, bytes)) forbid(words, id);
  };

  return {
    push: (token) => {
      const bytes = vocabulary.bytes(token);
      if (!go(exact, bytes) || !go(loose, bytes)) {
        throw new OnelaunchError('failed', `token ${token} is not of the grammar, with its lengths`);
      }
      length += bytes.length;
      if (place === 'text' || place === 'escape') {
        const { characters, end, escaped } = measure(bytes, place === 'escape');
        if (end < 0) {
          place = escaped ? 'escape' : 'text';
          const { least, most, isAll } = room;
          room = { least: Math.max(0, least - characters), most: most - characters, isAll };
          if (isAll || room.most >= longest) return;
        }
      }
      look(bytes.at(-1) ?? 0);
    },
    narrow: (words) => {
      if (place === 'json') narrowJson(words);
      else if (place !== 'words') narrowText(words);
      else {
        for (const { id, bytes } of entering)
          if (isAllowed(words, id) && !fits(exact, bytes)) forbid(words, id);
      }
    },
    mark: () => {
      const here = { place, room, length };
      return () => {
        const since = length - here.length;
        if (since > 0) for (const matcher of [exact, loose]) matcher.back(since);
        ({ place, room, length } = here);
      };
    },
  };
}

/** Goes on with all of these bytes, or stays. */
function go(matcher: ByteMatcher, bytes: Bytes): boolean {
  for (const [i, byte] of bytes.entries()) {
    if (matcher.accept(byte)) continue;
    if (i > 0) matcher.back(i);
    return false;
  }
  return true;
}

/** What is made behind these bytes; undefined: they may not come. */
function behind<T>(matcher: ByteMatcher, bytes: Bytes, make: () => T): T | undefined {
  if (!go(matcher, bytes)) return undefined;
  const made = make();
  if (bytes.length > 0) matcher.back(bytes.length);
  return made;
}

const fits = (matcher: ByteMatcher, bytes: Bytes): boolean => behind(matcher, bytes, () => true) ?? false;

const holds = (bytes: Uint8Array, text: string): boolean => Buffer.from(bytes).includes(text);
