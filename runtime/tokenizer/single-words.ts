// Added tokens that are found only where they stand alone (`single_word`), which @huggingface/tokenizers 0.2.0 does not read.
import type { Tokenizer as Engine } from '@huggingface/tokenizers';

interface AddedToken {
  readonly content: string;
  readonly isNormalized: boolean;
  readonly isSingleWord: boolean;
}

/** What cuts a text at the added tokens: at those of the text as it is, and then at those of the normalized one. */
interface Splitters {
  readonly splitter_unnormalized: Splitter;
  readonly splitter_normalized: Splitter;
}
interface Splitter {
  split: (text: string) => string[];
}

/** As \w of Rust's regular expressions. */
const letter = '[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]';
const endsInWord = new RegExp(`${letter}$`, 'u');
const beginsWord = new RegExp(`^${letter}`, 'u');

/** Has an engine leave those tokens in the text that are a part of a word there. Source: find_matches in added_vocabulary.rs of tokenizers.
 *  @param mark what may stand inside a text, which is then no token, and is tokenized as it would be without */
export function keepSingleWords(engine: Engine, added: readonly AddedToken[], mark: string): void {
  if (!added.some(({ isSingleWord }) => isSingleWord)) return;
  const { normalizer } = engine;
  const { splitter_unnormalized, splitter_normalized } = engine as unknown as Splitters;
  for (const [splitter, isNormalized] of [
    [splitter_unnormalized, false],
    [splitter_normalized, true],
  ] as const) {
    const spelled = (tokens: readonly AddedToken[]) =>
      new Set(
        tokens
          .filter((token) => isNormalized === (token.isNormalized && normalizer !== null))
          .map(({ content }) => (isNormalized ? normalizer!.normalize(content) : content)),
      );
    const all = spelled(added);
    const single = spelled(added.filter(({ isSingleWord }) => isSingleWord));
    const split = splitter.split.bind(splitter);
    splitter.split = (text) => {
      const parts: string[] = [];
      let at = 0;
      let rest = '';
      const endRest = () => {
        if (rest !== '') parts.push(all.has(rest) ? rest.slice(0, 1) + mark + rest.slice(1) : rest);
        rest = '';
      };
      for (const part of split(text)) {
        const end = at + part.length;
        // A character may be two units.
        const before = text.slice(Math.max(0, at - 2), at);
        const isToken =
          all.has(part) &&
          !(single.has(part) && (endsInWord.test(before) || beginsWord.test(text.slice(end, end + 2))));
        if (isToken) {
          endRest();
          parts.push(part);
        } else rest += part;
        at = end;
      }
      endRest();
      return parts;
    };
  }
}
