// POST /tokenize and /detokenize, in vLLM's shape.
import { z } from 'zod';
import { listOf } from '../runtime/list-of.ts';
import { ApiError } from './api-error.ts';
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

export async function detokenize(served: ServedModel, given: z.infer<typeof detokenizeShape>) {
  const { vocab } = served.manifest.dims;
  const beyond = given.tokens.find((id) => id >= vocab);
  if (beyond === undefined) return { prompt: await served.detokenizeApart(given.tokens) };
  throw new ApiError(400, `tokens: the model has tokens 0 to ${vocab - 1}, and no ${beyond}`, {
    param: 'tokens',
  });
}
