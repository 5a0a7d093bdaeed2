// What a model makes of the options of a reply: stops that are special tokens, how long it may be, tokens that there are no rows for.
import { ContextOverflowError, OnelaunchError } from '../errors.ts';
import type { GenerationDefaults } from './generation-config.ts';
import { type CheckedOptions, checkOptions, type ReplyOptions } from './sampling.ts';
import { sortStops } from './tokenizer/stop-strings.ts';
import type { Tokenizer } from './tokenizer/tokenizer.ts';

/** What a reply can be at most, whatever its options say. */
export interface ReplyBounds {
  readonly tokenizer: Tokenizer | null;
  readonly defaults: GenerationDefaults;
  /** Rows of the embedding. */
  readonly vocab: number;
  /** Positions of the KV cache, and those that the model was made for. */
  readonly context: number;
  readonly longest: number;
}

/** Ids that can be chosen are below this. */
export const chosenBelow = ({ tokenizer, vocab }: Pick<ReplyBounds, 'tokenizer' | 'vocab'>): number =>
  Math.min(tokenizer?.size ?? vocab, vocab);

/** The options of a reply, checked. @throws OnelaunchError of kind usage */
export function readAsked(options: ReplyOptions, bounds: ReplyBounds): CheckedOptions {
  const { tokenizer, defaults, vocab } = bounds;
  const checked = withSpecialStops(checkOptions(options, defaults, chosenBelow(bounds)), tokenizer);
  checkStopIds(checked.stopIds, vocab);
  return checked;
}

/** Most tokens of a reply to a prompt, where the context has room for them.
 *  @throws OnelaunchError of kind usage for a prompt that does not fit, or has tokens that the model does not have */
export function lengthBehind(
  prompt: readonly number[],
  checked: CheckedOptions,
  { tokenizer, vocab, context, longest }: ReplyBounds,
): number {
  checkTokens(prompt, vocab, tokenizer);
  if (prompt.length === 0) {
    throw new OnelaunchError('usage', 'the prompt has no tokens', {
      hint: 'Give at least one.',
      option: ['prompt'],
    });
  }
  if (prompt.length >= context) throw new ContextOverflowError(prompt.length, context, longest);
  return lengthOf(checked, prompt.length);
}

/** With the stop texts that are special tokens as stop ids. @throws OnelaunchError usage for one that holds such a token beside text */
function withSpecialStops(options: CheckedOptions, tokenizer: Tokenizer | null): CheckedOptions {
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

function checkStopIds(stopIds: readonly number[], vocab: number): void {
  const beyond = stopIds.find((id) => id >= vocab);
  if (beyond === undefined) return;
  throw new OnelaunchError(
    'usage',
    `options.stopIds has ${beyond}, and the model has tokens below ${vocab}`,
    {
      ...{ hint: 'tokenize(text) says which tokens a text has.', option: ['stopIds'] },
    },
  );
}

/** Most tokens of a reply, as the caller or the model says. @throws OnelaunchError usage where the model leaves none */
function lengthOf({ maxTokens, maxLength }: CheckedOptions, promptTokens: number): number {
  if (maxLength === null) return maxTokens;
  if (promptTokens < maxLength) return Math.min(maxTokens, maxLength - promptTokens);
  const message = `the prompt has ${promptTokens} tokens, and max_length in generation_config.json is ${maxLength}, reply included`;
  throw new OnelaunchError('usage', message, { hint: 'Shorten the prompt, or say maxTokens.' });
}

/** A tokenizer may have more tokens than the model has rows for. @throws OnelaunchError usage for a prompt that has one of them */
function checkTokens(prompt: readonly number[], vocab: number, tokenizer: Tokenizer | null): void {
  const beyond = prompt.find((id) => id >= vocab);
  if (beyond === undefined) return;
  const token = tokenizer?.added.get(beyond);
  const named =
    token === undefined ? `token ${beyond}` : `the token ${token}, id ${beyond} of tokenizer.json`;
  throw new OnelaunchError('usage', `the prompt has ${named}, and the embedding has ${vocab} rows`, {
    hint: 'Write the prompt without it, or in Python save the model after model.resize_token_embeddings(len(tokenizer)).',
  });
}
