// POST /tokenize and /detokenize, in vLLM's shape.
import { z } from 'zod';
import { listOf } from '../runtime/list-of.ts';
import { inParams } from './option-error.ts';
import type { ServedModel } from './service.ts';

const model = z.string().optional();

export const tokenizeShape = z.strictObject({
  model,
  prompt: z.string(),
  add_special_tokens: z.boolean().optional(),
});

export async function tokenize(served: ServedModel, given: z.infer<typeof tokenizeShape>) {
  const options = { addSpecialTokens: given.add_special_tokens ?? true };
  const tokens = await served.tokenizeApart(given.prompt, options);
  return { count: tokens.length, max_model_len: served.context, tokens };
}

export const detokenizeShape = z.strictObject({ model, tokens: listOf(z.int().min(0)) });

/** @throws ApiError 400 for tokens that the model does not have */
export async function detokenize(served: ServedModel, given: z.infer<typeof detokenizeShape>) {
  try {
    return { prompt: await served.detokenizeApart(given.tokens) };
  } catch (error) {
    throw inParams(error, ([, ...place]) => ['tokens', ...place]);
  }
}
