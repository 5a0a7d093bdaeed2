// Which matrices of a model, and its KV cache, have which format.

import type { ModelDims } from './dims.ts';
import { cacheFormats, dtypeBytes, type Format } from './formats.ts';
import type { FieldName } from './ops.ts';

/** The format of a matrix. */
export function formatOf({ dtype, weights, tiedHead }: ModelDims, field: FieldName): Format {
  if (weights === undefined) return dtype;
  if (field === 'embedding' || (field === 'head' && tiedHead)) return weights.embedding;
  if (field === 'head') return weights.head;
  return field === 'qkv' ? (weights.qkv ?? weights.layers) : weights.layers;
}

/** What --weights calls these formats. */
export const weightsName = ({ layers, qkv }: NonNullable<ModelDims['weights']>): Format | 'mixed' =>
  qkv === undefined ? layers : 'mixed';

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

function matricesText(dims: ModelDims): string {
  const [layers, qkv, embedding, head] = (['down', 'qkv', 'embedding', 'head'] as const).map((field) =>
    formatOf(dims, field),
  );
  if (qkv !== layers) {
    return qkv === embedding && embedding === head
      ? `${layers}, query, key, value, embedding and head ${qkv}`
      : `layers ${layers}, query, key and value ${qkv}, embedding ${embedding}, head ${head}`;
  }
  if (embedding !== head) return `layers ${layers}, embedding ${embedding}, head ${head}`;
  return embedding === layers ? layers! : `${layers}, embedding and head ${embedding}`;
}
