// POST /v1/embeddings.
import { z } from 'zod';
import { listOf } from '../runtime/list-of.ts';
import { ApiError } from './api-error.ts';
import { inParams } from './option-error.ts';
import type { ServedModel, Service } from './service.ts';

const any = z.unknown().optional();
const ids = listOf(z.int().min(0)).min(1);
const mostInputs = 2048;

export const embeddingShape = z.strictObject({
  model: z.string(),
  input: z.union(
    [
      z.string().min(1),
      ids,
      listOf(z.string().min(1)).min(1).max(mostInputs),
      listOf(ids).min(1).max(mostInputs),
    ],
    `expected a text, or tokens, or up to ${mostInputs} of either`,
  ),
  encoding_format: z.enum(['float', 'base64']).optional(),
  dimensions: z.int().min(1).optional(),
  user: any,
});
type Given = z.infer<typeof embeddingShape>;

/** The vectors of all inputs, one after another in one turn.
 *  @throws ApiError 400 for a model that was not loaded for it, and as a reply does */
export async function embed(service: Service, given: Given, signal: AbortSignal) {
  if (!service.model().embeds) {
    const message = 'this server replies, and makes no embeddings: gen serve --embeddings does';
    throw new ApiError(400, message, { code: 'unsupported_endpoint' });
  }
  const { encoding_format = 'float', dimensions } = given;
  const made = await service.turn(signal, async (model: ServedModel, stop) => {
    const all: { vector: Float32Array; tokens: number }[] = [];
    try {
      for (const input of inputsOf(given.input))
        all.push(await model.embed(input, { dimensions, signal: stop }));
      return all;
    } catch (error) {
      throw inParams(error, ([option]) => [option === 'dimensions' ? option : 'input']);
    }
  });
  const tokens = made.reduce((sum, one) => sum + one.tokens, 0);
  return {
    object: 'list',
    data: made.map(({ vector }, index) => ({
      ...{ object: 'embedding', index },
      embedding: encoding_format === 'base64' ? base64(vector) : [...vector],
    })),
    model: service.name,
    usage: { prompt_tokens: tokens, total_tokens: tokens },
  };
}

/** Float32, little endian. */
const base64 = ({ buffer, byteOffset, byteLength }: Float32Array): string =>
  Buffer.from(buffer, byteOffset, byteLength).toString('base64');

function inputsOf(input: Given['input']): readonly (string | readonly number[])[] {
  if (typeof input === 'string') return [input];
  return typeof input[0] === 'number' ? [input as number[]] : (input as (string | number[])[]);
}
