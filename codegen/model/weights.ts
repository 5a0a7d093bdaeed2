// Which matrices of a model have which format.

import type { ModelDims } from './dims.ts';
import type { Format } from './formats.ts';
import type { FieldName } from './ops.ts';

/** The format of a matrix. */
export function formatOf({ dtype, weights, tiedHead }: ModelDims, field: FieldName): Format {
  if (weights === undefined) return dtype;
  if (field === 'embedding' || (field === 'head' && tiedHead)) return weights.embedding;
  return field === 'head' ? weights.head : weights.layers;
}

/** For people: bf16; int8; int4, embedding and head int8. */
export function formatsText(dims: ModelDims): string {
  const [layers, embedding, head] = (['qkv', 'embedding', 'head'] as const).map((field) =>
    formatOf(dims, field),
  );
  if (embedding !== head) return `layers ${layers}, embedding ${embedding}, head ${head}`;
  return embedding === layers ? layers! : `${layers}, embedding and head ${embedding}`;
}
