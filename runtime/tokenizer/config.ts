// What tokenizer_config.json says: the special tokens and the chat template.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { isGgufFile } from '../../gguf/header.ts';
import { tokenizerConfigOf } from '../../gguf/vocabulary.ts';
import { checkShape, readJson } from '../json-file.ts';

/** As tokenizer.json and tokenizer_config.json spell it, without its id. */
export type AddedToken = z.infer<typeof addedToken>;

export interface TokenizerConfig {
  /** bos_token, eos_token, pad_token and unk_token, those that are set. */
  readonly tokens: Readonly<Record<string, string>>;
  /** Added tokens in the order of the ids that it says, with what a text is cut by. */
  readonly added: readonly AddedToken[];
  /** Further tokens that are never printed. */
  readonly special: readonly string[];
  readonly chatTemplate: string | readonly { readonly name: string; readonly template: string }[] | undefined;
  /** The file as it is; empty when there is none. */
  readonly json: object;
}

const tokenText = z.union([
  z.string(),
  z.looseObject({ content: z.string() }).transform((token) => token.content),
]);
const tokens = {
  bos_token: tokenText.nullish(),
  eos_token: tokenText.nullish(),
  pad_token: tokenText.nullish(),
  unk_token: tokenText.nullish(),
};
/** The older place of the special tokens, read where tokenizer_config.json does not name one. */
const specialTokens = z.looseObject(tokens);
const addedToken = z.looseObject({
  content: z.string(),
  special: z.boolean().nullish(),
  single_word: z.boolean().nullish(),
  normalized: z.boolean().nullish(),
});
const tokenizerConfig = z.looseObject({
  ...tokens,
  added_tokens_decoder: z.record(z.string(), addedToken).nullish(),
  additional_special_tokens: z.array(tokenText).nullish(),
  extra_special_tokens: z.unknown().optional(),
  chat_template: z
    .union([z.string(), z.array(z.looseObject({ name: z.string(), template: z.string() }))])
    .nullish(),
});

/** All tokens that it names as special. */
export const namedSpecial = ({ special, tokens }: TokenizerConfig): string[] => [
  ...special,
  ...Object.values(tokens),
];

/** What tokenizer_config.json says, or a GGUF file in its place; a model may lack the file.
 *  @throws OnelaunchError of kind usage. */
export function readTokenizerConfig(directory: string): TokenizerConfig {
  const isGguf = isGgufFile(directory);
  const path = isGguf ? directory : join(directory, 'tokenizer_config.json');
  const json = isGguf ? tokenizerConfigOf(path) : existsSync(path) ? readJson(path) : {};
  const file = checkShape(tokenizerConfig, json, path);
  const mapPath = join(directory, 'special_tokens_map.json');
  const map = existsSync(mapPath) ? checkShape(specialTokens, readJson(mapPath), mapPath) : {};
  const names = ['bos_token', 'eos_token', 'pad_token', 'unk_token'] as const;
  const named = names.map((name) => [name, file[name] === undefined ? map[name] : file[name]] as const);
  // transformers 5 renamed the list, and some files have an object of the same name.
  const extra = z.array(tokenText).safeParse(file.extra_special_tokens).data ?? [];
  return {
    tokens: Object.fromEntries(
      named.flatMap(([name, token]) => (typeof token === 'string' ? [[name, token]] : [])),
    ),
    added: Object.entries(file.added_tokens_decoder ?? {})
      .sort(([a], [b]) => Number(a) - Number(b))
      .map(([, token]) => token),
    special: [...(file.additional_special_tokens ?? []), ...extra],
    chatTemplate: file.chat_template ?? undefined,
    json: json as object,
  };
}
