// What the tokens of a vocabulary add to a text in JSON: how many characters, and where they end it.

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

/** Tokens as they go on with a text: at a whole character, or in the middle of an escape. */
export interface TokenLengths {
  /** Most characters of a token. */
  readonly longest: number;
  /** A bit for each token that adds at most so many characters. @param characters at most `longest` */
  within(characters: number): Int32Array;
  /** Those that end it. */
  readonly ending: readonly MeasuredToken[];
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
    const characters = new Uint32Array(size);
    const ending: MeasuredToken[] = [];
    for (let id = 0; id < size; id++) {
      const bytes = bytesOf(id);
      const one = measure(bytes, escaped);
      characters[id] = one.characters;
      if (one.end >= 0) ending.push(tokenOf(id, bytes, one));
    }
    const masks = masksOf(characters);
    return { longest: masks.length - 1, within: (most) => masks[most]!, ending };
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

/** Of each number up to the largest: a bit for each that is at most that. */
function masksOf(numbers: Uint32Array): readonly Int32Array[] {
  const ids: number[][] = [];
  for (const [id, number] of numbers.entries()) {
    ids[number] ??= [];
    ids[number].push(id);
  }
  let words = new Int32Array(Math.ceil(numbers.length / 32));
  return Array.from(ids, (some = []) => {
    words = words.slice();
    for (const id of some) words[id >> 5]! |= 1 << (id & 31);
    return words;
  });
}
