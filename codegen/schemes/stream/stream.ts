// The stream of a plan with streamed weights: how the tiles of every product are dealt to blocks and warps, and what fits in shared memory.
import type { ModelDims } from '../../model/dims.ts';
import type { OpName } from '../../model/graph.ts';
import { padded } from '../../model/packing.ts';
import { columnsOf, outputRowsOf, partsFor } from '../../model/sizes.ts';
import type { PlanOptions, StreamWeights } from '../../plan/plan.ts';
import type { Target } from '../../schedule/target.ts';

/** Warps that compute; one more feeds them. */
export const streamWarps = 8;
/** Rows of a tile, and columns of one of its cells: what one matrix instruction takes. */
export const tileRows = 8;
const cellColumns = 32;
const cellBytes = tileRows * cellColumns * 2;

/** Tokens that a pass of a stream can have. */
export const streamTokens: readonly number[] = [16, 8, 4, 2, 1];
/** Kernels for fewer tokens than the largest pass: a pass runs the smallest that holds it. */
const smallerKernels: readonly number[] = [1, 4, 8];
/** Queries of one kv head that a block has room for: one matrix instruction's a warp. */
export const mostQueries = 8 * streamWarps;
/** Fewest slots that keep a block fed. */
export const fewestSlots = 4;
/** Bytes that a slot is a multiple of: one cell of each warp. */
const slotUnit = streamWarps * cellBytes;
/** Positions of the KV cache that a slot holds at least. */
const slotPositions = 16;

/**
 * Activations that a stream rounds to the weights' type. In a layer: x and its normed form, q, k and v as they cross blocks, the rotated
 * query, the softmax's weights, att, mid and its normed form, h. Once: the last x and its normed form.
 */
export const streamRoundings = { perLayer: 11, once: 2 } as const;

/**
 * How the words of an exchange are used again, as templates/cuda/stream/words.cuh does it: turn t has copy t mod `copies`; whoever publishes a
 * word of turn t then empties the same word for turn t + `ahead`, with what was there of turn t + `ahead` - `copies`.
 */
export interface Rotation {
  readonly copies: number;
  /** null: nobody empties words. */
  readonly ahead: number | null;
  /** A word carries its turn, so that an older one is not taken for it. */
  readonly epoch?: boolean;
}

/** Of each format that a plan can ask for. Either way what is overwritten is two turns old. */
export const rotations: Readonly<Record<PlanOptions['words'], Rotation>> = {
  sentinel: { copies: 4, ahead: 2 },
  epoch: { copies: 2, ahead: null, epoch: true },
};

/** One product as the stream has it. Tiles of 8 rows are dealt to blocks, a tile's columns to the warps of a block. */
export interface StreamProduct {
  readonly op: OpName;
  readonly stage: string;
  readonly rows: number;
  readonly columns: number;
  readonly tiles: number;
  /** Tiles of the busiest block. */
  readonly most: number;
  /** Cells of one warp in a tile. */
  readonly each: number;
  readonly tileBytes: number;
}

/** Sizes that hold for the kernel of so many tokens. */
export interface StreamMemory {
  readonly tokens: number;
  /** Slots of the ring. */
  readonly slots: number;
  /** Tiles that a block sums at once. */
  readonly sumTiles: number;
  /** Shared memory beside the ring [bytes]. */
  readonly workBytes: number;
}

export interface Stream {
  readonly blocks: number;
  readonly products: readonly StreamProduct[];
  readonly weights: StreamWeights & { readonly inFlight: number };
  readonly words: PlanOptions['words'];
  readonly splits: number;
  readonly splitFrom: number;
  /** Elements of a head in the cache: padded for the matrix instructions. */
  readonly headPad: number;
  /** The kernels, from that of one token to that of the largest pass. */
  readonly kernels: readonly StreamMemory[];
  /** Bytes of all weights in the stream. */
  readonly bytes: number;
}

const matrices: readonly OpName[] = ['qkv_proj', 'o_proj', 'gate_up', 'down_proj', 'lm_head'];

/** The stream for a model, or null where not even one token fits. `stageOf` names the stage of a product. */
export function planStream(
  dims: ModelDims,
  target: Target,
  weights: StreamWeights,
  options: Pick<PlanOptions, 'words' | 'tokens' | 'splitFrom'>,
  stageOf: (op: OpName) => string,
): Stream | null {
  const blocks = blocksFor(dims, target);
  const products = matrices.map((op) => ({ ...shapeOf(dims, op, blocks), stage: stageOf(op) }));
  const splits = partsFor(dims, blocks);
  const headPad = padded(dims.headDim);
  const memory = (tokens: number) => streamMemory(dims, target, weights, tokens);
  const one = memory(1);
  if (one.slots < fewestSlots) return null;
  const wanted = options.tokens === 'many' ? streamTokens.filter((n) => n > 1) : [options.tokens];
  const many =
    wanted
      .filter((tokens) => (dims.qHeads / dims.kvHeads) * tokens <= mostQueries)
      .map(memory)
      .find((candidate) => candidate.slots >= fewestSlots) ?? one;
  const kernels = [...smallerKernels.filter((tokens) => tokens < many.tokens).map(memory), many];
  const bytes = products.reduce(
    (sum, p) => sum + p.tiles * p.tileBytes * (p.op === 'lm_head' ? 1 : dims.layers),
    0,
  );
  const { words, splitFrom } = options;
  const inFlight = weights.inFlight ?? inFlightFor(products, weights);
  return {
    blocks,
    products,
    weights: { ...weights, inFlight },
    words,
    splits,
    splitFrom,
    headPad,
    kernels,
    bytes,
  };
}

/**
 * The fewest blocks among which the busiest has no more tiles of any product of a layer than with all multiprocessors, so that as few as
 * possible poll; every block has a tile of each, and kv heads find a block each.
 */
function blocksFor(dims: ModelDims, target: Target): number {
  const tiles = matrices
    .filter((op) => op !== 'lm_head')
    .map((op) => Math.ceil(outputRowsOf(op, dims) / tileRows));
  const all = Math.min(target.sms, ...tiles);
  const fewest = Math.max(...tiles.map((n) => Math.ceil(n / Math.ceil(n / all))));
  return Math.max(Math.min(fewest, all), Math.min(dims.kvHeads, target.sms));
}

function shapeOf(dims: ModelDims, op: OpName, blocks: number): Omit<StreamProduct, 'stage'> {
  const [rows, columns] = [outputRowsOf(op, dims), columnsOf(op, dims)];
  const tiles = Math.ceil(rows / tileRows);
  const each = Math.ceil(padded(columns) / cellColumns / streamWarps);
  const most = Math.ceil(tiles / blocks);
  return { op, rows, columns, tiles, most, each, tileBytes: each * streamWarps * cellBytes };
}

/**
 * Slots under way where the plan says nothing. In a small model blocks wait for each other's words more than for bytes, and a queue in front
 * of the memory delays the words: one. In a large one bytes are all that counts: two. (docs/devlog.md, section 9)
 */
function inFlightFor(products: readonly StreamProduct[], { stages, tile }: StreamWeights): number {
  const layer = products.filter((p) => p.op !== 'lm_head');
  const blockBytes = layer.reduce((sum, p) => sum + p.most * p.tileBytes, 0);
  return blockBytes <= 2 * stages * tile ? 1 : 2;
}

/** The tiles [first, end) of a product that a block has: numbers of blocks differ by one at most. */
export function tilesOf({ tiles }: Pick<StreamProduct, 'tiles'>, block: number, blocks: number) {
  const dealt = (i: number) => Math.floor(tiles / blocks) * i + Math.floor(((tiles % blocks) * i) / blocks);
  return { first: dealt(block), end: dealt(block + 1) };
}

/**
 * What 16 bytes of the stream are: row and first of 8 columns, as pack.cuh lays them out. `cell` counts the cells of one warp among the
 * tiles of a block, of which `firstTile` is the first. Rows and columns beyond the matrix are zeros.
 */
export function cellOf(
  { each }: Pick<StreamProduct, 'each'>,
  firstTile: number,
  cell: number,
  warp: number,
  lane: number,
): { row: number; column: number } {
  return {
    row: (firstTile + Math.floor(cell / each)) * tileRows + Math.floor(lane / 4),
    column: (warp * each + (cell % each)) * cellColumns + (lane % 4) * 8,
  };
}

/** Shared memory that the library declares itself [bytes]. */
export const streamStaticBytes = 1024;

/** What SharedMemory of templates/cuda/stream/worker.cuh takes for so many tokens, and how many slots fit beside it. */
export function streamMemory(
  dims: ModelDims,
  target: Target,
  weights: StreamWeights,
  tokens: number,
): StreamMemory {
  const blocks = blocksFor(dims, target);
  const products = matrices.map((op) => shapeOf(dims, op, blocks));
  const headPad = padded(dims.headDim);
  const sumTiles = Math.max(1, Math.min(6, Math.floor(32 / tokens)));
  const mostEach = Math.max(...products.map((p) => p.each));
  const slices = streamWarps * tokens * (mostEach | 1) * 64;
  const group = dims.qHeads / dims.kvHeads;
  const queries = Math.min(8, group * tokens);
  const ofWarp = queries * ((headPad + 32) * 2 + 8 * (headPad / 8 + 4) * 4) + 64;
  const attention = streamWarps * ofWarp + 4 * (group + headPad / 2) + 16;
  const own = tokens > 1 ? slotPositions * 2 * headPad * 2 : 128;
  const sums = 2 * sumTiles * tileRows * tokens * (streamWarps + 4) * 4;
  const squares = 2 * tokens * streamWarps * 4;
  const residual = mostHidden(products) * tileRows * tokens * 4;
  const other = Math.max(1024, 512 + 16 * weights.stages); // barriers of the slots, flags, alignment
  const workBytes = Math.max(slices, attention) + own + sums + squares + residual + other;
  const room = target.sharedBytes - streamStaticBytes - workBytes;
  return { tokens, sumTiles, workBytes, slots: Math.min(weights.stages, Math.floor(room / weights.tile)) };
}

/** Shared memory that a pass of so many tokens needs at least [bytes]. */
export const streamBytes = ({ workBytes }: StreamMemory, { tile }: StreamWeights): number =>
  streamStaticBytes + workBytes + fewestSlots * tile;

/** Sizes that a slot can have, from small to large: it holds whole cells of every warp, and 16 positions of a head. */
export const tileSizes = ({ headDim }: ModelDims): number[] =>
  [1, 2, 4, 8]
    .map((units) => units * slotUnit)
    .filter((bytes) => bytes >= slotPositions * 2 * padded(headDim) * 2);

/** Tiles of the residual that the busiest block has. */
export const mostHidden = (products: readonly Pick<StreamProduct, 'op' | 'most'>[]): number =>
  products.find((p) => p.op === 'o_proj')!.most;
