// The decoder as ops and tensors. For every access it says how much of the tensor one unit of work touches: all rules follow from that.
import type { ModelDims } from './dims.ts';
import {
  type OpKind,
  type OpName,
  type OpPart,
  opNames,
  opTable,
  sizeOf,
  sizes,
  type TensorName,
} from './ops.ts';

export { docOf, type OpName, opNames, type PointwiseOpName, type TensorName } from './ops.ts';

/**
 * How much of a tensor one access touches:
 * `row` one element of each token; `slice` one kv head over one split of the positions (of the cache: the newest positions are in
 * exactly one slice); `qHead` one query head; `kvHead` one kv head with the query heads that share it; `token` all of one token; `all`.
 */
export type Extent = 'row' | 'slice' | 'qHead' | 'kvHead' | 'token' | 'all';

/** Extents from narrow to wide. */
export const width: Readonly<Record<Extent, number>> = {
  row: 0,
  slice: 1,
  qHead: 2,
  kvHead: 3,
  token: 4,
  all: 5,
};

export interface Access {
  readonly tensor: TensorName;
  readonly extent: Extent;
}

export interface Op {
  readonly name: OpName;
  readonly kind: OpKind;
  readonly part: OpPart;
  readonly reads: readonly Access[];
  readonly writes: readonly Access[];
}

export interface Graph {
  readonly dims: ModelDims;
  /** In execution order. Ops that this model lacks (qk_norm) are absent, and their readers read the tensor before. */
  readonly ops: readonly Op[];
}

/** Accesses written `tensor:extent`. */
export function accessesOf(text: string, renamed: Partial<Record<TensorName, TensorName>> = {}): Access[] {
  return text
    .split(' ')
    .filter(Boolean)
    .map((word) => {
      const [tensor, extent] = word.split(':') as [TensorName, Extent];
      return { tensor: renamed[tensor] ?? tensor, extent };
    });
}

/** The ops of one pass over a model of these dims. */
export function decoderGraph(dims: ModelDims): Graph {
  const renamed: Partial<Record<TensorName, TensorName>> = dims.qkNorm ? {} : { qn: 'q', kn: 'k' };
  const ops = opNames
    .filter((name) => name !== 'qk_norm' || dims.qkNorm)
    .map((name): Op => {
      const { kind, part, reads, writes } = opTable[name];
      return { name, kind, part, reads: accessesOf(reads, renamed), writes: accessesOf(writes, renamed) };
    });
  return { dims, ops };
}

/** Elements of a tensor per token; `partial` per split of the positions; the cache has none, it is sized by context. */
export function elementsOf(tensor: TensorName, dims: ModelDims, splits: number): number {
  switch (tensor) {
    case 'partial':
      return dims.qHeads * splits * (dims.headDim + 2);
    case 'squares':
      return ((dims.qHeads + dims.kvHeads) * dims.headDim) / 4;
    case 'next':
      return 1;
    case 'cache':
      return 0;
    default:
      return sizes[sizeOf(tensor)!].of(dims);
  }
}

/** Splits of the positions that blocks work on: as many as there are blocks a kv head, no more than 16, since every reader merges them. */
export const splitsFor = ({ kvHeads }: ModelDims, blocks: number): number =>
  Math.max(1, Math.min(16, Math.floor(blocks / kvHeads)));
