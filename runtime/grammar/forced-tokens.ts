// What tokens a text that a grammar forces is likely to become: those that a model made of it before, else the longest that it has.
import { byteLetters } from '../tokenizer/byte-letters.ts';
import { remember } from './recent.ts';

/** Bytes as a byte-level token: a letter for each. */
export const spelledBytes = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byteLetters[byte]).join('');

/** Texts of which it is known what they begin with. */
const mostKnown = 10_000;

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

  /** The tokens of a text, at most so many. @param text as spelledBytes has it */
  tokens(text: string, most: number): number[] {
    const tokens: number[] = [];
    for (let rest = text; rest !== '' && tokens.length < most; ) {
      const token = this.#chosen.get(rest) ?? this.#longestOf(rest);
      if (token === undefined) break;
      tokens.push(token);
      rest = rest.slice(this.#spelled[token]!.length);
    }
    return tokens;
  }

  /** What is left of a text behind a token that was chosen, which is noted; nothing where the token goes beyond it. */
  behind(text: string, token: number): string {
    const spelled = this.#spelled[token]!;
    if (text === '' || spelled === '' || !text.startsWith(spelled)) return '';
    if (token === this.#longestOf(text)) this.#chosen.delete(text);
    else remember(this.#chosen, text, token, mostKnown);
    return text.slice(spelled.length);
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
