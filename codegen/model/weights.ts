// Which matrices of a model, and its KV cache, have which format.

import type { ModelDims } from './dims.ts';
import { cacheFormats, dtypeBytes, type Format } from './formats.ts';
import type { FieldName } from './ops.ts';

/** The format of a matrix. */
export function formatOf({ dtype, weights, tiedHead }: ModelDims, field: FieldName): Format {
  if (weights === undefined) return dtype;
  if (field === 'embedding' || (field === 'head' && tiedHead)) return weights.embedding;
  if (field === 'head') return weights.head;
  return (field === 'qkv' || field === 'down' ? weights[field] : undefined) ?? weights.layers;
}

/** What --weights calls these formats; int4-asym-mixed, and so on, where products have others and no flag makes them. */
export function weightsName({ layers, qkv, down }: NonNullable<ModelDims['weights']>): string {
  if (qkv === undefined && down === undefined) return layers;
  return layers === 'int4' && qkv === 'int8' && down === undefined ? 'mixed' : `${layers}-mixed`;
}

/** Bytes of a key or a value of one head and position; scales lie at whole multiples of their size. */
export function cacheRowBytes({
  cache,
  dtype,
  headDim,
}: Pick<ModelDims, 'cache' | 'dtype' | 'headDim'>): number {
  if (cache === undefined) return headDim * dtypeBytes[dtype];
  const { bytes, scaleBytes } = cacheFormats[cache];
  return Math.ceil((scaleBytes + headDim * bytes) / scaleBytes) * scaleBytes;
}

/** For people: bf16; int8; int4, embedding and head int8; int4, query, key, value, embedding and head int8; bf16, KV cache int8. */
export const formatsText = (dims: ModelDims): string =>
  [matricesText(dims), ...(dims.cache ? [`KV cache ${dims.cache}`] : [])].join(', ');

const parts = { qkv: 'query, key, value', down: 'down', embedding: 'embedding', head: 'head' } as const;

/** The format of most, then those of others, each with what has it. */
export function matricesText(dims: ModelDims): string {
  const layers = formatOf(dims, 'gate_up');
  const others = new Map<Format, string[]>();
  for (const field of ['qkv', 'down', 'embedding', 'head'] as const) {
    const format = formatOf(dims, field);
    if (format !== layers) others.set(format, [...(others.get(format) ?? []), parts[field]]);
  }
  const listed = [...others].map(
    ([format, names]) => `${names.join(', ').replace(/, ([^,]*)$/, ' and $1')} ${format}`,
  );
  return [layers, ...listed].join(', ');
}
