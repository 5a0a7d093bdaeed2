// What a grammar forces, as far as a mask shows it, and the token that is likely to come of it: the one that a model made of it before, else the longest.
import { byteLetters } from '../tokenizer/byte-letters.ts';
import { remember } from './recent.ts';

/** Bytes as a byte-level token: a letter for each. */
export const spelledBytes = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byteLetters[byte]).join('');

/** Texts of which it is known what they begin with. */
const mostKnown = 10_000;
/** Tokens of a mask that are compared: of more, such as all that begin with a space, little is forced, and they would take milliseconds. */
const mostCompared = 1000;

export class ForcedTokens {
  readonly #spelled: readonly string[];
  #ids: ReadonlyMap<string, number> | undefined;
  #longest = 0;
  /** The first token that was last chosen of a text, where that is not the longest; the one that was noted last at the end. */
  readonly #chosen = new Map<string, number>();

  /** @param spelled tokens by their ids, as spelledBytes has them; empty: never expected */
  constructor(spelled: readonly string[]) {
    this.#spelled = spelled;
  }

  /** The longest text that each token of a mask is the beginning of, or begins with; nothing where they differ from their first byte on, or are many. What is
   *  forced behind the longest token no mask shows, however much that is: of a grammar without an end it has none. */
  text(words: Int32Array): string {
    let text = '';
    let isWhole = true;
    let compared = 0;
    for (let at = 0; at < words.length; at++) {
      for (let rest = words[at]!; rest !== 0; rest &= rest - 1) {
        if (compared++ === mostCompared) return '';
        // A mask may have bits of its last word that are of no token.
        const other = this.#spelled[32 * at + 31 - Math.clz32(rest & -rest)] ?? '';
        if (text.startsWith(other)) continue;
        if (!other.startsWith(text)) {
          text = text.slice(0, sharedLength(text, other));
          if (text === '') return '';
          isWhole = false;
        } else if (isWhole) {
          text = other;
        }
      }
    }
    return text;
  }

  /** The token that is likely to come first of a text. */
  first(text: string): number | undefined {
    return this.#chosen.get(text) ?? this.#longestOf(text);
  }

  /** That a token was chosen where a text was forced. */
  note(text: string, token: number): void {
    const spelled = this.#spelled[token]!;
    if (spelled === '' || !text.startsWith(spelled)) return;
    if (token === this.#longestOf(text)) this.#chosen.delete(text);
    else remember(this.#chosen, text, token, mostKnown);
  }

  #longestOf(text: string): number | undefined {
    this.#ids ??= this.#read();
    for (let length = Math.min(this.#longest, text.length); length > 0; length--) {
      const id = this.#ids.get(text.slice(0, length));
      if (id !== undefined) return id;
    }
    return undefined;
  }

  #read(): Map<string, number> {
    this.#longest = this.#spelled.reduce((most, { length }) => Math.max(most, length), 0);
    return new Map(this.#spelled.map((text, id) => [text, id]));
  }
}

function sharedLength(a: string, b: string): number {
  const most = Math.min(a.length, b.length);
  let length = 0;
  while (length < most && a[length] === b[length]) length++;
  return length;
}
