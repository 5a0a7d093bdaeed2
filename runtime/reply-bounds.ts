// What a model makes of the options of a reply: stops that are special tokens, how long it may be, tokens that there are no rows for.
import { OnelaunchError } from '../errors.ts';
import type { CheckedOptions } from './sampling.ts';
import { sortStops } from './stop-strings.ts';
import type { Tokenizer } from './tokenizer.ts';

/** With the stop texts that are special tokens as stop ids. @throws OnelaunchError usage for one that holds such a token beside text */
export function withSpecialStops(options: CheckedOptions, tokenizer: Tokenizer | null): CheckedOptions {
  const { texts, ids, mixed } = sortStops(options.stop, tokenizer);
  const [wrong] = mixed;
  if (wrong !== undefined) {
    const text = `options.stop holds ${JSON.stringify(wrong.stop)}, and ${wrong.token} in it is a special token, which has no text`;
    throw new OnelaunchError('usage', text, {
      ...{ hint: 'Give the token alone, or the text without it.', option: ['stop'] },
    });
  }
  return { ...options, stop: texts, stopIds: [...new Set([...options.stopIds, ...ids])] };
}

/** Most tokens of a reply, as the caller or the model says. @throws OnelaunchError usage where the model leaves none */
export function lengthOf({ maxTokens, maxLength }: CheckedOptions, promptTokens: number): number {
  if (maxLength === null) return maxTokens;
  if (promptTokens < maxLength) return Math.min(maxTokens, maxLength - promptTokens);
  const message = `the prompt has ${promptTokens} tokens, and max_length in generation_config.json is ${maxLength}, reply included`;
  throw new OnelaunchError('usage', message, { hint: 'Shorten the prompt, or say maxTokens.' });
}

/** A tokenizer may have more tokens than the model has rows for. @throws OnelaunchError usage for a prompt that has one of them */
export function checkTokens(prompt: readonly number[], vocab: number, tokenizer: Tokenizer | null): void {
  const beyond = prompt.find((id) => id >= vocab);
  if (beyond === undefined) return;
  const token = tokenizer?.added.get(beyond);
  const named =
    token === undefined ? `token ${beyond}` : `the token ${token}, id ${beyond} of tokenizer.json`;
  throw new OnelaunchError('usage', `the prompt has ${named}, and the embedding has ${vocab} rows`, {
    hint: 'Write the prompt without it, or in Python save the model after model.resize_token_embeddings(len(tokenizer)).',
  });
}
