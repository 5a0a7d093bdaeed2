// The sampling defaults and stop tokens of a model, as transformers reads them.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { checkShape, readJson } from './json-file.ts';
import { readTokenizerConfig } from './tokenizer-config.ts';

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
