// What tokenizer_config.json says: the special tokens and the chat template.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { checkShape, readJson } from './json-file.ts';

export interface TokenizerConfig {
  /** bos_token, eos_token, pad_token and unk_token, those that are set. */
  readonly tokens: Readonly<Record<string, string>>;
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
const tokenizerConfig = z.looseObject({
  bos_token: tokenText.nullish(),
  eos_token: tokenText.nullish(),
  pad_token: tokenText.nullish(),
  unk_token: tokenText.nullish(),
  additional_special_tokens: z.array(tokenText).nullish(),
  extra_special_tokens: z.unknown().optional(),
  chat_template: z
    .union([z.string(), z.array(z.looseObject({ name: z.string(), template: z.string() }))])
    .nullish(),
});

/** What tokenizer_config.json says; a model may lack the file.
 *  @throws OnelaunchError of kind usage. */
export function readTokenizerConfig(directory: string): TokenizerConfig {
  const path = join(directory, 'tokenizer_config.json');
  const json = existsSync(path) ? readJson(path) : {};
  const file = checkShape(tokenizerConfig, json, path);
  const { bos_token, eos_token, pad_token, unk_token } = file;
  const named = Object.entries({ bos_token, eos_token, pad_token, unk_token });
  // transformers 5 renamed the list, and some files have an object of the same name.
  const extra = z.array(tokenText).safeParse(file.extra_special_tokens).data ?? [];
  return {
    tokens: Object.fromEntries(
      named.filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
    ),
    special: [...(file.additional_special_tokens ?? []), ...extra],
    chatTemplate: file.chat_template ?? undefined,
    json: json as object,
  };
}
