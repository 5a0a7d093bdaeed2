// Dims that nothing divides, for whoever cuts products and heads into pieces.
import type { ModelDims } from '../../codegen/model/dims.ts';
import { models } from '../../configs/models.ts';
import { twoKinds } from './two-kinds.ts';

const base = models.find(({ name }) => name === 'qwen3-0.6b')!;

/** With three query heads a kv head of 40 elements; the same with windows; with one head of 2, without a norm and a kv head for each. */
export const oddDims: readonly ModelDims[] = [
  {
    ...{ ...base, name: 'odd', layers: 3, hidden: 333, ffn: 517, vocab: 1001 },
    ...{ qHeads: 9, kvHeads: 3, headDim: 40, maxPositions: 2048 },
  },
  {
    ...{ ...base, ...twoKinds, name: 'odd-windows', layers: 4, hidden: 100, ffn: 150, vocab: 333 },
    ...{ qHeads: 6, kvHeads: 2, headDim: 20, maxPositions: 2048 },
  },
  {
    ...{ ...base, name: 'odd-small', layers: 1, hidden: 7, ffn: 5, vocab: 11, qkNorm: false, qkvBias: true },
    ...{ qHeads: 1, kvHeads: 1, headDim: 2, maxPositions: 64 },
  },
];
