// The decoder as ops and tensors. For every access it says how much of the tensor one unit of work touches: all rules follow from that.
import type { ModelDims } from './dims.ts';

/**
 * How much of a tensor one access touches:
 * `row` one element of each token; `slice` one kv head over one part of the positions (of the cache: the newest positions are in
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

export type TensorName = keyof typeof tensorDocs;

/** What a tensor holds. Shapes are per token. */
export const tensorDocs = {
  x: 'residual stream',
  xn: 'normed input of attention',
  q: 'queries',
  k: 'keys',
  v: 'values',
  qn: 'queries after q_norm',
  kn: 'keys after k_norm',
  qr: 'rotated queries',
  kr: 'rotated keys',
  cache: 'keys and values of all positions',
  partial: 'attention of one part of the positions: weighted values, maximum, sum',
  att: 'attention output',
  o: 'attention output, projected',
  hn: 'normed input of the feed-forward part',
  gate: 'gate',
  up: 'up',
  h: 'gated activations',
  d: 'feed-forward output',
  xf: 'final norm',
  logits: 'logits',
  next: 'the chosen token',
} as const;

export interface Access {
  readonly tensor: TensorName;
  readonly extent: Extent;
}

export type OpName = keyof typeof opTable;

/** embed, norm, ...: the lowering an op needs. `headwise` ops work on head vectors; `pointwise` ones are in configs/ops.ts. */
export type OpKind = 'embed' | 'norm' | 'matmul' | 'headwise' | 'attend' | 'merge' | 'pointwise' | 'sample';

export interface Op {
  readonly name: OpName;
  readonly kind: OpKind;
  readonly part: 'begin' | 'layer' | 'end';
  readonly reads: readonly Access[];
  readonly writes: readonly Access[];
  readonly doc: string;
}

const op = (kind: OpKind, part: Op['part'], reads: string, writes: string, doc: string) => ({
  kind,
  part,
  reads,
  writes,
  doc,
});

/** Every op of the supported decoders, in execution order. Accesses are written `tensor:extent`. */
const opTable = {
  embed: op('embed', 'begin', '', 'x:row', 'x = embedding of the token'),
  attn_norm: op('norm', 'layer', 'x:token', 'xn:token', 'xn = rmsnorm(x)'),
  qkv_proj: op('matmul', 'layer', 'xn:all', 'q:row k:row v:row', 'q, k, v = Wqkv xn (+ bias)'),
  qk_norm: op('headwise', 'layer', 'q:qHead k:kvHead', 'qn:qHead kn:kvHead', 'rmsnorm of each q and k head'),
  rope: op('headwise', 'layer', 'qn:qHead kn:kvHead', 'qr:qHead kr:kvHead', 'rotate q and k by position'),
  kv_append: op(
    'headwise',
    'layer',
    'kr:kvHead v:kvHead',
    'cache:slice',
    'store k and v of the new positions',
  ),
  attend: op(
    'attend',
    'layer',
    'qr:qHead cache:slice',
    'partial:slice',
    'softmax(q K) V over some positions',
  ),
  attn_merge: op('merge', 'layer', 'partial:qHead', 'att:qHead', 'combine the parts of the positions'),
  o_proj: op('matmul', 'layer', 'att:all', 'o:row', 'o = Wo att'),
  attn_add: op('pointwise', 'layer', 'x:row o:row', 'x:row', 'x = x + o'),
  ffn_norm: op('norm', 'layer', 'x:token', 'hn:token', 'hn = rmsnorm(x)'),
  gate_up: op('matmul', 'layer', 'hn:all', 'gate:row up:row', 'gate, up = Wgate hn, Wup hn'),
  swiglu: op('pointwise', 'layer', 'gate:row up:row', 'h:row', 'h = silu(gate) up'),
  down_proj: op('matmul', 'layer', 'h:all', 'd:row', 'd = Wdown h'),
  ffn_add: op('pointwise', 'layer', 'x:row d:row', 'x:row', 'x = x + d'),
  final_norm: op('norm', 'end', 'x:token', 'xf:token', 'xf = rmsnorm(x)'),
  lm_head: op('matmul', 'end', 'xf:all', 'logits:row', 'logits = Whead xf'),
  sample: op('sample', 'end', 'logits:all', 'next:all', 'choose the next token'),
} as const;

export const opNames = Object.keys(opTable) as readonly OpName[];

export interface Graph {
  readonly dims: ModelDims;
  /** In execution order. Ops that this model lacks (qk_norm) are absent, and their readers read the tensor before. */
  readonly ops: readonly Op[];
}

/** The ops of one pass over a model of these dims. */
export function decoderGraph(dims: ModelDims): Graph {
  const renamed: Partial<Record<TensorName, TensorName>> = dims.qkNorm ? {} : { qn: 'q', kn: 'k' };
  const accesses = (text: string): Access[] =>
    text
      .split(' ')
      .filter(Boolean)
      .map((word) => {
        const [tensor, extent] = word.split(':') as [TensorName, Extent];
        return { tensor: renamed[tensor] ?? tensor, extent };
      });
  const ops = opNames
    .filter((name) => name !== 'qk_norm' || dims.qkNorm)
    .map((name): Op => {
      const { reads, writes, ...rest } = opTable[name];
      return { name, ...rest, reads: accesses(reads), writes: accesses(writes) };
    });
  return { dims, ops };
}

/** Elements of a tensor per token; `partial` per part of the positions; the cache has none, it is sized by context. */
export function elementsOf(tensor: TensorName, dims: ModelDims, splits: number): number {
  const qDim = dims.qHeads * dims.headDim;
  const kvDim = dims.kvHeads * dims.headDim;
  switch (tensor) {
    case 'x':
    case 'xn':
    case 'o':
    case 'hn':
    case 'd':
    case 'xf':
      return dims.hidden;
    case 'q':
    case 'qn':
    case 'qr':
    case 'att':
      return qDim;
    case 'k':
    case 'v':
    case 'kn':
    case 'kr':
      return kvDim;
    case 'gate':
    case 'up':
    case 'h':
      return dims.ffn;
    case 'partial':
      return dims.qHeads * splits * (dims.headDim + 2);
    case 'logits':
      return dims.vocab;
    case 'next':
      return 1;
    case 'cache':
      return 0;
    default:
      return tensor satisfies never;
  }
}
