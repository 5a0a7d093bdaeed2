// What the small JSON files of a model say: sampling defaults, stop tokens and special tokens, as transformers reads them.
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { OnelaunchError } from '../errors.ts';

export interface GenerationDefaults {
  /** False: the most likely token is taken, and temperature is 0. */
  readonly doSample: boolean;
  readonly temperature: number;
  /** 0: off. Like topP and minP it is what the file says even when doSample is false, for a caller who sets a temperature. */
  readonly topK: number;
  /** 1: off. */
  readonly topP: number;
  /** 0: off. */
  readonly minP: number;
  /** 1: off. Applies to greedy decoding too. */
  readonly repetitionPenalty: number;
  /** Tokens that end a reply: the first of generation_config.json, config.json and tokenizer_config.json that names any. */
  readonly stopIds: readonly number[];
}

const tokenId = z.int().nonnegative();
const eos = z.union([tokenId, z.array(tokenId)]).nullish();
const generationConfig = z.looseObject({
  do_sample: z.boolean().nullish(),
  temperature: z.number().nonnegative().nullish(),
  top_k: z.int().nonnegative().nullish(),
  top_p: z.number().positive().max(1).nullish(),
  min_p: z.number().nonnegative().max(1).nullish(),
  repetition_penalty: z.number().positive().nullish(),
  eos_token_id: eos,
});

/** Defaults of the model in a directory. A missing file or key has the default of transformers' GenerationConfig: greedy,
 *  and for sampling temperature 1, top_k 50, top_p 1.
 *  @throws OnelaunchError of kind usage. */
export function readGenerationConfig(directory: string): GenerationDefaults {
  const path = join(directory, 'generation_config.json');
  const file = existsSync(path) ? checkShape(generationConfig, readJson(path), path) : {};
  const doSample = file.do_sample ?? false;
  return {
    doSample,
    temperature: doSample ? (file.temperature ?? 1) : 0,
    topK: file.top_k === null ? 0 : (file.top_k ?? 50),
    topP: file.top_p ?? 1,
    minP: file.min_p ?? 0,
    repetitionPenalty: file.repetition_penalty ?? 1,
    stopIds: findStopIds(directory, file.eos_token_id),
  };
}

function findStopIds(directory: string, stated: z.infer<typeof eos>): readonly number[] {
  if (stated !== undefined && stated !== null) return [stated].flat();
  const configPath = join(directory, 'config.json');
  if (existsSync(configPath)) {
    const config = checkShape(z.looseObject({ eos_token_id: eos }), readJson(configPath), configPath);
    if (config.eos_token_id !== undefined && config.eos_token_id !== null)
      return [config.eos_token_id].flat();
  }
  const { eos_token: content } = readTokenizerConfig(directory).tokens;
  const tokenizerPath = join(directory, 'tokenizer.json');
  if (content === undefined || !existsSync(tokenizerPath)) return [];
  const { added_tokens: added } = checkShape(
    z.looseObject({ added_tokens: z.array(z.looseObject({ id: tokenId, content: z.string() })) }),
    readJson(tokenizerPath),
    tokenizerPath,
  );
  return added.filter((token) => token.content === content).map((token) => token.id);
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

export interface TokenizerConfig {
  /** bos_token, eos_token, pad_token and unk_token, those that are set. */
  readonly tokens: Readonly<Record<string, string>>;
  /** Further tokens that are never printed. */
  readonly special: readonly string[];
  readonly chatTemplate: string | readonly { readonly name: string; readonly template: string }[] | undefined;
  /** The file as it is; empty when there is none. */
  readonly json: object;
}

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

/** The JSON in a file of a model directory.
 *  @throws OnelaunchError of kind usage. */
export function readJson(path: string): unknown {
  if (!statSync(path, { throwIfNoEntry: false })?.isFile()) {
    throw new OnelaunchError('usage', `no file ${path}`, {
      hint: "Copy it from the model's own repository.",
    });
  }
  const text = readFileSync(path, 'utf8');
  try {
    return JSON.parse(text);
  } catch (cause) {
    const hint = misplacedFile(text) ?? "It may be cut short: copy it from the model's own repository again.";
    throw new OnelaunchError('usage', `${path} is not valid JSON`, { hint, cause });
  }
}

/** The value as the schema describes it, or a usage error that names the file and the first wrong key. */
export function checkShape<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  path: string,
): z.infer<Schema> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const key = issue.path.join('.') || 'the file';
  const found = issue.path.reduce((at: unknown, name) => (at as Record<PropertyKey, unknown>)?.[name], value);
  const rule = issue.message.replace(/, received .*/, '').replace(/^Invalid \w+(: )?/, '');
  const shown = JSON.stringify(found)?.slice(0, 60);
  const wrong = `${key} is ${shown}, ${rule === '' ? 'not valid here' : rule[0]!.toLowerCase() + rule.slice(1)}`;
  throw new OnelaunchError('usage', `${path}: ${found === undefined ? `${key} is missing` : wrong}`, {
    hint: "Compare with the file in the model's own repository.",
  });
}

/** What a file is that starts like this, when it is a well known stand-in for the wanted one. */
export function misplacedFile(start: string): string | undefined {
  if (start.startsWith('version https://git-lfs')) {
    return 'It is a git-lfs pointer: run `git lfs pull` in the directory, or download the file itself.';
  }
  if (/^\s*<(!doctype|html|\?xml)/i.test(start)) {
    return 'It is a web page, such as a login or an error page: download the file itself.';
  }
  if (start.startsWith('GGUF')) return 'It is a GGUF file: use the safetensors files of the model.';
  if (start.startsWith('PK\u0003\u0004'))
    return 'It is a PyTorch checkpoint: use the safetensors files of the model.';
  return undefined;
}
