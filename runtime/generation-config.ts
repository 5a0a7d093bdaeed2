// The sampling defaults and stop tokens of a model, as transformers reads them.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { isGgufFile } from '../gguf/header.ts';
import { stopIdsOf } from '../gguf/vocabulary.ts';
import { checkShape, readJson } from './json-file.ts';
import { readTokenizerConfig } from './tokenizer/config.ts';
import { sortStops } from './tokenizer/stop-strings.ts';
import { readAddedTokens, type Tokenizer } from './tokenizer/tokenizer.ts';

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
  /** Tokens that end a chat: stopIds, and the tokenizer's eos_token. */
  readonly chatStopIds: readonly number[];
  /** Texts that end a reply. */
  readonly stop: readonly string[];
  /** Most tokens of a reply: max_new_tokens. */
  readonly maxTokens: number | null;
  /** Most tokens of prompt and reply together: max_length, where maxTokens is null. */
  readonly maxLength: number | null;
  /** What of the files is not applied, and why, one line each. */
  readonly notes: readonly string[];
}

/** The same for chats, which more tokens may end. */
export const ofChats = (defaults: GenerationDefaults): GenerationDefaults => ({
  ...defaults,
  stopIds: defaults.chatStopIds,
});

/** What transformers does without a generation_config.json. */
export const greedy: GenerationDefaults = {
  doSample: false,
  temperature: 0,
  topK: 50,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  stopIds: [],
  chatStopIds: [],
  stop: [],
  maxTokens: null,
  maxLength: null,
  notes: [],
};

const eos = z.union([z.int(), z.array(z.int())]).nullish();
const generationConfig = z.looseObject({
  do_sample: z.boolean().nullish(),
  temperature: z.number().nonnegative().nullish(),
  top_k: z.int().min(-1).nullish(),
  top_p: z.number().nonnegative().max(1).nullish(),
  min_p: z.number().nonnegative().max(1).nullish(),
  repetition_penalty: z.number().positive().nullish(),
  eos_token_id: eos,
  stop_strings: z.union([z.string(), z.array(z.string())]).nullish(),
  max_new_tokens: z.int().nullish(),
  max_length: z.int().nullish(),
});

/** The tokens that a model can make. */
interface Vocabulary {
  /** Rows of the logits. @default any */
  readonly vocab?: number;
  /** @default what tokenizer.json says */
  readonly tokenizer?: Pick<Tokenizer, 'idOf' | 'added' | 'specialIds'> | null;
}

/** Defaults of the model in a directory. A missing key has the default of transformers' GenerationConfig: greedy, and for sampling
 *  temperature 1, top_k 50, top_p 1; without generation_config.json the keys of config.json count.
 *  @throws OnelaunchError of kind usage. */
export function readGenerationConfig(directory: string, vocabulary: Vocabulary = {}): GenerationDefaults {
  const { path, json } = readConfig(directory);
  const file = checkShape(generationConfig, json, path);
  const doSample = file.do_sample ?? false;
  const notes = findUnapplied(file, path);
  const note = (text: string) => notes.push(`${path}: ${text}`);
  const limit = (key: 'max_new_tokens' | 'max_length') => {
    const value = file[key] ?? null;
    if (value === null || value >= 1) return value === null ? null : Math.min(value, mostTokens);
    note(`${key} is ${value}, which is no limit, and is ignored`);
    return null;
  };
  const maxTokens = limit('max_new_tokens');
  const maxLength = limit('max_length');
  if (maxTokens !== null && maxLength !== null)
    note(
      `max_new_tokens is ${maxTokens} and max_length is ${maxLength}: max_new_tokens counts, as in transformers`,
    );

  const wanted = [file.stop_strings ?? []].flat();
  const { texts, ids, mixed } = sortStops(wanted, vocabulary.tokenizer ?? null);
  for (const { stop, token } of mixed)
    note(
      `${JSON.stringify(stop)} of stop_strings is ignored: ${token} is a special token, which has no text`,
    );
  if (wanted.includes('')) note('an empty text in stop_strings is ignored');

  const { stated, tokenizers } = findStopIds(directory, path, file.eos_token_id, vocabulary, notes);
  const stopIds = stated.length > 0 ? stated : tokenizers;
  const more = tokenizers.filter((id) => !stopIds.includes(id));
  if (more.length > 0) {
    note(
      `a reply ends at token ${stopIds.join(', ')}, and eos_token in tokenizer_config.json is ${more.join(', ')}: a chat ends at either`,
    );
  }
  return {
    doSample,
    temperature: doSample ? (file.temperature ?? 1) : 0,
    // More than there are tokens is all of them.
    topK: file.top_k === null ? 0 : Math.min(Math.max(0, file.top_k ?? 50), mostTokens),
    topP: file.top_p ?? 1,
    minP: file.min_p ?? 0,
    repetitionPenalty: file.repetition_penalty ?? 1,
    stopIds: [...new Set([...stopIds, ...ids])],
    chatStopIds: [...new Set([...stopIds, ...more, ...ids])],
    stop: texts.filter((text) => text !== ''),
    maxTokens,
    maxLength: maxTokens === null ? maxLength : null,
    notes,
  };
}

/** Of a GGUF file, only the tokens that end a reply. */
function readConfig(directory: string): { readonly path: string; readonly json: unknown } {
  if (isGgufFile(directory)) return { path: directory, json: { eos_token_id: stopIdsOf(directory) } };
  const paths = ['generation_config.json', 'config.json'].map((name) => join(directory, name));
  const path = paths.find((one) => existsSync(one));
  return path === undefined ? { path: paths[0]!, json: {} } : { path, json: readJson(path) };
}

const mostTokens = 2 ** 31 - 1;

/** Keys of transformers that change a reply and have no counterpart here, with the values that mean off. */
const unapplied: Readonly<Record<string, readonly unknown[]>> = {
  num_beams: [1],
  penalty_alpha: [0],
  no_repeat_ngram_size: [0],
  min_length: [0],
  min_new_tokens: [0],
  typical_p: [1],
  epsilon_cutoff: [0],
  eta_cutoff: [0],
  bad_words_ids: [],
  suppress_tokens: [],
  begin_suppress_tokens: [],
  forced_bos_token_id: [],
  forced_eos_token_id: [],
  sequence_bias: [],
  exponential_decay_length_penalty: [],
  guidance_scale: [1],
};

function findUnapplied(file: Readonly<Record<string, unknown>>, path: string): string[] {
  return Object.entries(unapplied).flatMap(([key, off]) => {
    const value = file[key];
    const isOff = value === undefined || value === null || off.includes(value);
    return isOff || (Array.isArray(value) && value.length === 0)
      ? []
      : [`${path}: ${key} is ${JSON.stringify(value).slice(0, 40)}, which is not applied`];
  });
}

/** The ids of generation_config.json or config.json, and that of the tokenizer, as far as the model can make them. */
function findStopIds(
  directory: string,
  path: string,
  own: z.infer<typeof eos>,
  { vocab = Number.POSITIVE_INFINITY, tokenizer }: Vocabulary,
  notes: string[],
): { readonly stated: readonly number[]; readonly tokenizers: readonly number[] } {
  const possible = (ids: readonly number[], file: string, key: string) =>
    ids.filter((id) => {
      const is = id >= 0 && id < vocab;
      if (!is) notes.push(`${file}: ${key} ${id} is ignored: the model has tokens 0 to ${vocab - 1}`);
      return is;
    });
  let stated = possible([own ?? []].flat(), path, 'eos_token_id');
  const configPath = join(directory, 'config.json');
  if (stated.length === 0 && path !== configPath && existsSync(configPath)) {
    const config = checkShape(z.looseObject({ eos_token_id: eos }), readJson(configPath), configPath);
    stated = possible([config.eos_token_id ?? []].flat(), configPath, 'eos_token_id');
  }
  const { eos_token: token } = readTokenizerConfig(directory).tokens;
  const id = token === undefined ? undefined : tokensOf(directory, tokenizer)?.idOf(token);
  const tokenizers =
    id === undefined ? [] : possible([id], join(directory, 'tokenizer_config.json'), 'eos_token');
  return { stated, tokenizers };
}

/** Those that somebody has read, else those of tokenizer.json. */
function tokensOf(directory: string, read: Vocabulary['tokenizer']): Pick<Tokenizer, 'idOf'> | null {
  if (read) return read;
  return existsSync(join(directory, 'tokenizer.json')) ? readAddedTokens(directory) : null;
}
