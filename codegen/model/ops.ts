// Every op of the supported decoders, once: what it reads and writes, its weights, its shape, its function. All that is printed follows.
import type { ModelDims } from './dims.ts';

/** A length that tensors and matrices have, and the constant that generated code calls it by. */
export const sizes = {
  hidden: { constant: 'kHidden', of: ({ hidden }: ModelDims) => hidden },
  ffn: { constant: 'kFfn', of: ({ ffn }: ModelDims) => ffn },
  qDim: { constant: 'kQDim', of: (d: ModelDims) => d.qHeads * d.headDim },
  kvDim: { constant: 'kKvDim', of: (d: ModelDims) => d.kvHeads * d.headDim },
  qkvRows: { constant: 'kQkvRows', of: (d: ModelDims) => (d.qHeads + 2 * d.kvHeads) * d.headDim },
  vocab: { constant: 'kVocab', of: ({ vocab }: ModelDims) => vocab },
} as const;
export type Size = keyof typeof sizes;

/** What each tensor holds, and its elements per token. `partial` has some per split, the cache per position, the token is one. */
const tensorTable = {
  x: ['residual stream', 'hidden'],
  xn: ['normed input of attention', 'hidden'],
  q: ['queries', 'qDim'],
  k: ['keys', 'kvDim'],
  v: ['values', 'kvDim'],
  qn: ['queries after q_norm', 'qDim'],
  kn: ['keys after k_norm', 'kvDim'],
  qr: ['rotated queries', 'qDim'],
  kr: ['rotated keys', 'kvDim'],
  squares: ['squares of queries and keys, summed over four rows', null],
  cache: ['keys and values of all positions', null],
  partial: ['attention of one split of the positions: weighted values, maximum, sum', null],
  att: ['attention output', 'qDim'],
  o: ['attention output, projected', 'hidden'],
  hn: ['normed input of the feed-forward part', 'hidden'],
  gate: ['gate', 'ffn'],
  up: ['up', 'ffn'],
  h: ['gated activations', 'ffn'],
  d: ['feed-forward output', 'hidden'],
  xf: ['final norm', 'hidden'],
  logits: ['logits', 'vocab'],
  next: ['the chosen token', null],
} as const satisfies Record<string, readonly [doc: string, size: Size | null]>;
export type TensorName = keyof typeof tensorTable;

export const docOf = (tensor: TensorName): string => tensorTable[tensor][0];
export const sizeOf = (tensor: TensorName): Size | null => tensorTable[tensor][1];

/** The packed weights of a layer and of the model. */
export type FieldName =
  | 'attn_norm'
  | 'qkv'
  | 'qkv_bias'
  | 'q_norm'
  | 'k_norm'
  | 'o'
  | 'ffn_norm'
  | 'gate_up'
  | 'down'
  | 'final_norm'
  | 'embedding'
  | 'head';

/** A product with a matrix of rows * interleave rows: row r of output i is row r * interleave + i, where several are interleaved. */
export interface ProductSpec {
  readonly weight: FieldName;
  readonly bias: FieldName | null;
  readonly columns: Size;
  readonly rows: Size;
  readonly input: TensorName;
  /** Stacked one behind the other, or interleaved row by row. */
  readonly outputs: readonly TensorName[];
  readonly interleave: 1 | 2;
}

/** A norm over a whole token. */
export interface NormSpec {
  readonly weight: FieldName;
  readonly input: TensorName;
  readonly result: TensorName;
}

/** `function` is exported by configs/ops.ts, or by what the plan puts in its place. */
export interface PointwiseSpec {
  readonly function: string;
  readonly args: readonly TensorName[];
  readonly result: TensorName;
  readonly rows: Size;
}

/** embed, norm, ...: the lowering that an op needs. `headwise` ops work on head vectors. */
export type OpKind = 'embed' | 'norm' | 'matmul' | 'headwise' | 'attend' | 'merge' | 'pointwise' | 'sample';
/** Where in a pass an op is: before the layers, in each, behind them. */
export type OpPart = 'begin' | 'layer' | 'end';

interface OpSpec {
  readonly kind: OpKind;
  readonly part: OpPart;
  /** `tensor:extent`, how much of the tensor one unit of work touches: see `Extent`. */
  readonly reads: string;
  readonly writes: string;
  readonly doc: string;
  readonly product?: ProductSpec;
  readonly norm?: NormSpec;
  readonly pointwise?: PointwiseSpec;
  /** Made again by each block rather than handed over, if the plan says so. */
  readonly pure?: true;
}

const op = (kind: OpKind, part: OpPart, reads: string, writes: string, doc: string) =>
  ({ kind, part, reads, writes, doc }) as const;

const norm = (part: OpPart, weight: FieldName, result: TensorName) =>
  ({
    ...op('norm', part, 'x:token', `${result}:token`, `${result} = rmsnorm(x)`),
    norm: { weight, input: 'x', result },
    pure: true,
  }) as const;

const product = (part: OpPart, spec: Omit<ProductSpec, 'bias' | 'interleave'>, doc: string, more = {}) => ({
  ...op('matmul', part, `${spec.input}:all`, spec.outputs.map((tensor) => `${tensor}:row`).join(' '), doc),
  product: { bias: null, interleave: 1, ...spec, ...more } as ProductSpec,
});

const pointwise = (args: readonly TensorName[], result: TensorName, fn: string, rows: Size, doc: string) =>
  ({
    ...op('pointwise', 'layer', args.map((tensor) => `${tensor}:row`).join(' '), `${result}:row`, doc),
    pointwise: { function: fn, args, result, rows },
  }) as const;

/** In execution order. Ops that a model lacks are left out of its graph. */
const table = {
  embed: op('embed', 'begin', '', 'x:row', 'x = embedding of the token'),
  attn_norm: norm('layer', 'attn_norm', 'xn'),
  qkv_proj: product(
    'layer',
    { weight: 'qkv', columns: 'hidden', rows: 'qkvRows', input: 'xn', outputs: ['q', 'k', 'v'] },
    'q, k, v = Wqkv xn (+ bias)',
    { bias: 'qkv_bias' },
  ),
  qk_norm: {
    ...op('headwise', 'layer', 'q:qHead k:kvHead', 'qn:qHead kn:kvHead', 'rmsnorm of each q and k head'),
    pure: true,
  },
  rope: {
    ...op('headwise', 'layer', 'qn:qHead kn:kvHead', 'qr:qHead kr:kvHead', 'rotate q and k by position'),
    pure: true,
  },
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
  attn_merge: {
    ...op('merge', 'layer', 'partial:qHead', 'att:qHead', 'combine the splits of the positions'),
    pure: true,
  },
  o_proj: product(
    'layer',
    { weight: 'o', columns: 'qDim', rows: 'hidden', input: 'att', outputs: ['o'] },
    'o = Wo att',
  ),
  attn_add: pointwise(['x', 'o'], 'x', 'add', 'hidden', 'x = x + o'),
  ffn_norm: norm('layer', 'ffn_norm', 'hn'),
  gate_up: product(
    'layer',
    { weight: 'gate_up', columns: 'hidden', rows: 'ffn', input: 'hn', outputs: ['gate', 'up'] },
    'gate, up = Wgate hn, Wup hn',
    { interleave: 2 },
  ),
  swiglu: pointwise(['gate', 'up'], 'h', 'swiglu', 'ffn', 'h = silu(gate) up'),
  down_proj: product(
    'layer',
    { weight: 'down', columns: 'ffn', rows: 'hidden', input: 'h', outputs: ['d'] },
    'd = Wdown h',
  ),
  ffn_add: pointwise(['x', 'd'], 'x', 'add', 'hidden', 'x = x + d'),
  final_norm: norm('end', 'final_norm', 'xf'),
  lm_head: product(
    'end',
    { weight: 'head', columns: 'hidden', rows: 'vocab', input: 'xf', outputs: ['logits'] },
    'logits = Whead xf',
  ),
  sample: op('sample', 'end', 'logits:all', 'next:all', 'choose the next token'),
} satisfies Record<string, OpSpec>;

/** An op of a model's graph. */
export type OpName = keyof typeof table;
/** One that is a function of numbers. */
export type PointwiseOpName = {
  [Name in OpName]: (typeof table)[Name] extends { readonly pointwise: PointwiseSpec } ? Name : never;
}[OpName];
export const opTable: Readonly<Record<OpName, OpSpec>> = table;
export const opNames = Object.keys(table) as readonly OpName[];

const spec = <T>(found: T | undefined, name: OpName, what: string): T => {
  if (found === undefined) throw new Error(`internal error: ${name} is no ${what}`);
  return found;
};
export const productOf = (name: OpName): ProductSpec => spec(opTable[name].product, name, 'product');
export const normOf = (name: OpName): NormSpec => spec(opTable[name].norm, name, 'norm');
export const pointwiseOf = (name: OpName): PointwiseSpec =>
  spec(opTable[name].pointwise, name, 'pointwise op');
export const isProduct = (name: OpName): boolean => opTable[name].product !== undefined;

/** Columns of the input of a product. */
export const columnsOf = (name: OpName, dims: ModelDims): number => sizes[productOf(name).columns].of(dims);

/** Rows that a stage over rows deals: of a product, of a row-wise op, of the embedding. A row of gate_up is a pair. */
export function rowsOf(name: OpName, dims: ModelDims): number {
  const { product: ofProduct, pointwise: ofPointwise } = opTable[name];
  return sizes[ofProduct?.rows ?? ofPointwise?.rows ?? 'hidden'].of(dims);
}

/** Rows of a product's matrix. */
export const matrixRowsOf = (name: OpName, dims: ModelDims): number =>
  rowsOf(name, dims) * productOf(name).interleave;

/** The same as the generated code writes it. */
export function matrixRowsText(name: OpName): string {
  const { rows, interleave } = productOf(name);
  return interleave > 1 ? `${interleave} * ${sizes[rows].constant}` : sizes[rows].constant;
}

/** The products in the order of a pass. */
export const products: readonly OpName[] = opNames.filter(isProduct);
