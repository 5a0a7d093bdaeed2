// How a text is cut before merges apply, by the name that GGUF files have for it: the steps that tokenizer.json of such models has.

interface PreTokenizer {
  readonly normalizer: object | null;
  readonly steps: readonly object[];
  /** A word that is a token is not merged from its parts. */
  readonly ignoreMerges: boolean;
  /** A text begins with bos where the file does not say. */
  readonly addsBos: boolean;
}

const bytes = (useRegex: boolean) => ({
  ...{ type: 'ByteLevel', add_prefix_space: false },
  ...{ trim_offsets: true, use_regex: useRegex },
});
const split = (Regex: string) => ({ type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false });

/** With so many digits at a time. */
const words = (digits: string) =>
  split(
    `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`,
  );

const none = { normalizer: null, ignoreMerges: false, addsBos: false };
const gpt2: PreTokenizer = { ...none, steps: [bytes(true)] };
const qwen2: PreTokenizer = { ...none, normalizer: { type: 'NFC' }, steps: [words(''), bytes(false)] };
const llama3: PreTokenizer = {
  ...{ normalizer: null, ignoreMerges: true, addsBos: true },
  steps: [words('{1,3}'), bytes(false)],
};
const digitsApart: PreTokenizer = {
  ...none,
  steps: [{ type: 'Digits', individual_digits: true }, bytes(true)],
};

/** Source: llama-vocab.cpp of llama.cpp for the names; tokenizer.json of GPT-2, Qwen2.5 and 3, Llama 3, SmolLM2 and 3 for the steps. */
export const preTokenizers: ReadonlyMap<string, PreTokenizer> = new Map([
  ['qwen2', qwen2],
  ['deepseek-r1-qwen', { ...qwen2, normalizer: null }],
  ['llama-bpe', llama3],
  ['llama3', llama3],
  ['llama-v3', llama3],
  ['smaug-bpe', { ...llama3, addsBos: false }],
  ['smollm', digitsApart],
  ['starcoder', digitsApart],
  ['refact', digitsApart],
  ['gpt-2', gpt2],
]);

/** The regular expressions of these steps. None of them tries a text in more ways than the square of its length. */
export const knownPatterns: ReadonlySet<string> = new Set(
  ['', '{1,3}'].map((digits) => words(digits).pattern.Regex),
);
