// POST /v1/embeddings.
import { z } from 'zod';
import { listOf } from '../runtime/list-of.ts';
import { ApiError } from './api-error.ts';
import { inParams } from './option-error.ts';
import type { Entry } from './requests.ts';
import type { ServedModel, Service } from './service.ts';

const any = z.unknown().optional();
const text = z.string().min(1);
const ids = listOf(z.int().min(0)).min(1);
const mostInputs = 2048;
const expected = `expected a text, or tokens, or up to ${mostInputs} of either`;

type Input = string | readonly number[];

/** What an input is, by its first element: what is wrong with another one has its place. */
function shapeOf(input: unknown): z.ZodType | null {
  if (typeof input === 'string') return text;
  const [first] = Array.isArray(input) ? input : [];
  if (typeof first === 'number') return ids;
  const each = typeof first === 'string' ? text : Array.isArray(first) ? ids : null;
  return each && listOf<z.ZodType>(each).max(mostInputs);
}

const inputShape = z.custom<Input | readonly Input[]>().check(({ value, issues }) => {
  const shape = shapeOf(value);
  const found = shape?._zod.run({ value, issues: [] }, { async: false }) as z.core.ParsePayload | undefined;
  issues.push(...(found?.issues ?? [{ code: 'custom' as const, message: expected, input: value }]));
});

export const embeddingShape = z.strictObject({
  model: z.string(),
  input: inputShape,
  encoding_format: z.enum(['float', 'base64']).optional(),
  dimensions: z.int().min(1).optional(),
  user: any,
});
type Given = z.infer<typeof embeddingShape>;

/** The vectors of all inputs, one after another in one turn.
 *  @param entry gets the facts of it
 *  @throws ApiError 400 for a model that was not loaded for it, and as a reply does */
export async function embed(entry: Entry, service: Service, given: Given, signal: AbortSignal) {
  if (!service.model().embeds) {
    const message = 'this server replies, and makes no embeddings: gen serve --embeddings does';
    throw new ApiError(400, message, { code: 'unsupported_endpoint' });
  }
  const { encoding_format = 'float', dimensions } = given;
  const { made, times } = await service.turn(signal, async (model: ServedModel, stop) => {
    const all: { vector: Float32Array; tokens: number }[] = [];
    const inputs = inputsOf(given.input);
    for (const [i, input] of inputs.entries()) {
      const at = inputs === given.input ? ['input', i] : ['input'];
      try {
        all.push(await model.embed(input, { dimensions, signal: stop }));
      } catch (error) {
        throw inParams(error, ([option, ...place]) =>
          option === 'dimensions' ? [option] : [...at, ...place],
        );
      }
    }
    return all;
  });
  const sizes = made.map((one) => one.tokens);
  const tokens = sizes.reduce((sum, size) => sum + size, 0);
  service.metrics.embedded(sizes, times);
  entry.embedded = { prompt: tokens, queuedMs: times.queuedMs };
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

/** All of them: the list itself where it is one. */
function inputsOf(input: Given['input']): readonly Input[] {
  return typeof input === 'string' || typeof input[0] === 'number' ? [input as Input] : (input as Input[]);
}
