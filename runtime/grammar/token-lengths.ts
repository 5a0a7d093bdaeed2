// What the tokens of a vocabulary add to a text in JSON: how many characters, and where they end it.
import { allow } from '../engine/token-masks.ts';

const quote = 0x22;
const backslash = 0x5c;

/** What bytes add to a text that they begin inside of. */
export interface Measured {
  /** Characters that begin before its end; an escape is one. */
  readonly characters: number;
  /** Where the quote stands that ends it; -1: it goes on. */
  readonly end: number;
  /** Whether it goes on with the second half of an escape. */
  readonly escaped: boolean;
}

/** @param escaped whether the first byte is the second half of an escape @param from where the text goes on or begins */
export function measure(bytes: Uint8Array, escaped: boolean, from = 0): Measured {
  let characters = 0;
  let isSecond = escaped;
  for (let i = from; i < bytes.length; i++) {
    const byte = bytes[i]!;
    if (isSecond) {
      isSecond = false;
      continue;
    }
    if (byte === quote) return { characters, end: i, escaped: false };
    isSecond = byte === backslash;
    // A character of several bytes is counted by its first.
    if (byte >> 6 !== 0b10) characters++;
  }
  return { characters, end: -1, escaped: isSecond };
}

export interface MeasuredToken extends Measured {
  readonly id: number;
  readonly bytes: Uint8Array;
  /** Whether there is a quote behind its end: another text may begin. */
  readonly goesOn: boolean;
}

/** Tokens as they go on with a text: at a whole character, or in the middle of an escape. Masks have a bit for each token. */
interface TokenLengths {
  /** Most characters of a token. */
  readonly longest: number;
  /** By a number of characters, up to `longest`: tokens that add at most so many. */
  readonly within: readonly Int32Array[];
  /** The same of those that end the text. */
  readonly ending: readonly Int32Array[];
  /** Those that go on behind its end with a quote. */
  readonly goingOn: readonly MeasuredToken[];
}

export interface Vocabulary {
  bytes(id: number): Uint8Array;
  /** Tokens with a quote, by what they have up to the first one, and measured from there on. */
  readonly quoted: readonly { readonly head: Uint8Array; readonly tokens: readonly MeasuredToken[] }[];
  lengths(escaped: boolean): TokenLengths;
}

/** @param bytesOf what a token adds to a text @param size tokens: ids below it */
export function vocabularyOf(bytesOf: (id: number) => Uint8Array, size: number): Vocabulary {
  const lengths = (escaped: boolean): TokenLengths => {
    const all: number[][] = [];
    const ending: number[][] = [];
    const goingOn: MeasuredToken[] = [];
    for (let id = 0; id < size; id++) {
      const bytes = bytesOf(id);
      const one = measure(bytes, escaped);
      const { characters } = one;
      all[characters] = all[characters] ?? [];
      all[characters].push(id);
      if (one.end < 0) continue;
      ending[characters] = ending[characters] ?? [];
      ending[characters].push(id);
      const token = tokenOf(id, bytes, one);
      if (token.goesOn) goingOn.push(token);
    }
    const longest = all.length - 1;
    return { longest, within: masksOf(all, longest, size), ending: masksOf(ending, longest, size), goingOn };
  };
  const known: TokenLengths[] = [];
  const byHead = new Map<string, { head: Uint8Array; tokens: MeasuredToken[] }>();
  for (let id = 0; id < size; id++) {
    const bytes = bytesOf(id);
    const begin = bytes.indexOf(quote) + 1;
    if (begin === 0) continue;
    const head = bytes.subarray(0, begin);
    const key = head.join();
    const same = byHead.get(key) ?? { head, tokens: [] };
    same.tokens.push(tokenOf(id, bytes, measure(bytes, false, begin)));
    byHead.set(key, same);
  }
  return {
    bytes: bytesOf,
    quoted: [...byHead.values()],
    lengths: (escaped) => {
      known[Number(escaped)] ??= lengths(escaped);
      return known[Number(escaped)]!;
    },
  };
}

const tokenOf = (id: number, bytes: Uint8Array, one: Measured): MeasuredToken => ({
  ...{ id, bytes, ...one },
  goesOn: one.end >= 0 && bytes.includes(quote, one.end + 1),
});

/** A mask for each number up to `most`: ids of that number, and of all before it. */
function masksOf(
  ids: readonly (readonly number[] | undefined)[],
  most: number,
  size: number,
): readonly Int32Array[] {
  let words = new Int32Array(Math.ceil(size / 32));
  return Array.from({ length: most + 1 }, (_, number) => {
    words = words.slice();
    for (const id of ids[number] ?? []) allow(words, id);
    return words;
  });
}
