// Sizes of a stream: how the tiles of every product are dealt to blocks and warps, and what fits in shared memory.
import type { ModelDims } from '../../model/dims.ts';
import { blockFormats, cacheFormats, type Format, isBlocks } from '../../model/formats.ts';
import { splitsFor } from '../../model/graph.ts';
import { columnsOf, matrixRowsOf, type OpName, productOf, products as productOps } from '../../model/ops.ts';
import { padded } from '../../model/packing.ts';
import { formatOf } from '../../model/weights.ts';
import type { SplitStep, StreamScheme } from '../../plan/plan.ts';
import { hasBulkCopies } from '../../schedule/platform.ts';
import type { Target } from '../../schedule/target.ts';
import type { KernelSize, ProductShape, Ring, StreamProduct } from './schedule.ts';

/** Warps that compute; three more feed the ring, watch, and publish the cache. */
export const streamWarps = 8;
/** Rows of a tile, and columns of one of its cells: what one matrix instruction takes. */
export const rowTile = 8;
const cellColumns = 32;
/** Cells of a row of tiles: prompts take two at once. */
const cellsOf = (columns: number): number => 2 * Math.ceil(columns / (2 * cellColumns));
/** Of plain numbers. */
const plainCellBytes = rowTile * cellColumns * 2;
/** Of a format; a group of columns that share a scale is as wide as a cell. */
const cellBytes = (format: Format): number =>
  isBlocks(format) ? rowTile * blockFormats[format].bytes : plainCellBytes;
/** Cells of a format in the place of one of plain numbers: as many numbers in about as many bytes as those have. */
const cellsAlike = (format: Format): number => (isBlocks(format) ? 16 / blockFormats[format].bits : 1);

/** Tokens that a pass of a stream can have. */
export const streamTokens: readonly number[] = [16, 8, 4, 2, 1];
/** Kernels for fewer tokens than the largest pass, beside the one that checks drafts: a pass runs the smallest that holds it. */
const smallerKernels: readonly number[] = [1, 4, 8];
/** Queries of one kv head that a block has room for: one matrix instruction's a warp. */
export const mostQueries = 8 * streamWarps;
/** Kernels that can compute each of their tokens with the bits of a pass of its own, the largest first, and from how many bytes of a pass on they are
 *  there: a check of one draft saves less than half a pass, of which launch and choice take a tenth of a millisecond. */
const checkKernels = [
  { checked: 4, from: 0 },
  { checked: 2, from: 3e9 },
] as const;
/** Sets of a warp in a check times elements of a padded head: a lane keeps a fourth of as many sums, 64 of its 168 registers. */
const mostHeldElements = 256;
/** Fewest slots that keep a block fed. */
export const fewestSlots = 4;
/** Positions of the KV cache in one tile of attention. A slot holds at least one. */
export const kvTile = 16;
/** Bytes of a slot that `fit` begins with. */
const usualSlotBytes = 16384;

/** Bytes that the scales of a key and its value have in the cache: a position is whole pieces of so many. */
export const scalesBytes = 16;
/** Bytes of a key and a value of a head in the cache: padded numbers, or codes and their scales. */
export const positionBytes = ({ headDim, cache }: Pick<ModelDims, 'headDim' | 'cache'>): number =>
  cache === undefined
    ? 2 * padded(headDim) * 2
    : 2 * padded(headDim) * cacheFormats[cache].bytes + scalesBytes;

/** Bytes of the cached positions of one tile of a head. */
export const headBytes = (dims: Pick<ModelDims, 'headDim' | 'cache'>): number => kvTile * positionBytes(dims);

/** Sizes that a slot can have, from small to large: it holds whole cells of every warp, and 16 positions of a head. */
export const slotSizes = (dims: ModelDims): number[] =>
  [1, 2, 4, 8]
    .map((cells) => cells * streamWarps * plainCellBytes)
    .filter((bytes) => bytes >= headBytes(dims));

/** A slot that is left to `fit` has room for whole cells of every format of the model, with their scales. */
const withScales = (dims: ModelDims, slotBytes: number): number =>
  Math.max(
    ...productOps.map((op) => {
      const format = formatOf(dims, productOf(op).weight);
      return (slotBytes / plainCellBytes) * cellsAlike(format) * cellBytes(format);
    }),
  );

/** The product of a layer of which every block has a tile: what all publish there tells all how far the others are. */
const sharedByAll: OpName = 'gate_up';

const tilesIn = (dims: ModelDims, op: OpName): number => Math.ceil(matrixRowsOf(op, dims) / rowTile);

const layerTiles = (dims: ModelDims): number[] =>
  productOps.filter((op) => op !== 'lm_head').map((op) => tilesIn(dims, op));

/** The most blocks of which each has a tile of `sharedByAll`, half of them one of every other product of a layer, and kv heads find a block each. */
function mostBlocks(dims: ModelDims, target: Target): number {
  const most = Math.min(target.sms, tilesIn(dims, sharedByAll), 2 * Math.min(...layerTiles(dims)));
  return Math.max(most, Math.min(dims.kvHeads, target.sms));
}

/** Whether blocks without a tile of a product pass it by. Where not even `sharedByAll` has one for each, all wait for what each product reads. */
const isPassedBy = (dims: ModelDims, op: OpName, blocks: number): boolean =>
  op !== 'lm_head' && tilesIn(dims, op) < blocks && blocks <= tilesIn(dims, sharedByAll);

/**
 * Those that the plan wants, where the target has room for them; else the fewest blocks among which the busiest has no more tiles of any product of a layer than with all multiprocessors, so that as few as
 * possible poll; kv heads find a block each.
 */
export function blocksFor(dims: ModelDims, target: Target, wanted: StreamScheme['blocks']): number {
  const most = mostBlocks(dims, target);
  if (wanted !== 'fit') return Math.min(wanted, most);
  const fewest = Math.max(...layerTiles(dims).map((n) => Math.ceil(n / Math.ceil(n / most))));
  return Math.max(fewest, Math.min(dims.kvHeads, target.sms));
}

export function shapeOf(dims: ModelDims, op: OpName, blocks: number): ProductShape {
  const [rows, columns] = [matrixRowsOf(op, dims), columnsOf(op, dims)];
  const tiles = Math.ceil(rows / rowTile);
  const cells = cellsOf(columns);
  const warpCells = Math.ceil(cells / streamWarps);
  const mostTiles = Math.ceil(tiles / blocks);
  const tileBytes = cells * cellBytes(formatOf(dims, productOf(op).weight));
  const passedBy = isPassedBy(dims, op, blocks);
  return { op, rows, columns, tiles, mostTiles, cells, warpCells, tileBytes, passedBy };
}

const bytesOf = ({ tiles, tileBytes }: ProductShape): number => tiles * tileBytes;

/**
 * The stream: layer by layer the tiles of every product, and behind all layers those of the head. Where a product begins, and how many
 * bytes a layer and all have; whatever the number of blocks.
 */
export function streamPlaces(dims: ModelDims): {
  readonly at: Readonly<Partial<Record<OpName, number>>>;
  readonly layerBytes: number;
  readonly bytes: number;
} {
  const at: Partial<Record<OpName, number>> = {};
  let layerBytes = 0;
  for (const op of productOps.filter((name) => name !== 'lm_head')) {
    at[op] = layerBytes;
    layerBytes += bytesOf(shapeOf(dims, op, 1));
  }
  at.lm_head = layerBytes * dims.layers;
  return { at, layerBytes, bytes: at.lm_head + bytesOf(shapeOf(dims, 'lm_head', 1)) };
}

/** Splits where the plan leaves them to `fit`: the best of ten tables on an H100 and of seven on an H200 (docs/devlog.md, sections 10, 97, 99 and 102). */
const usualSteps: readonly SplitStep[] = [
  { splits: 1, from: 0 },
  { splits: 8, from: 384 },
  { splits: 16, from: 640 },
];

/** The steps that a target has blocks for, the first from position 0 on. */
export function fitSplits(
  dims: ModelDims,
  blocks: number,
  isSplit: boolean,
  wanted: StreamScheme['splits'],
): SplitStep[] {
  const most = isSplit ? splitsFor(dims, blocks) : 1;
  const asked = wanted === 'fit' ? usualSteps : wanted;
  const steps = asked.map(({ splits, from }, i) => ({
    splits: Math.min(splits, most),
    from: i === 0 ? 0 : from,
  }));
  return steps.filter(({ splits }, i) => i === 0 || splits !== steps[i - 1]!.splits);
}

/**
 * Blocks that share the values of a head while it is not split: two, where a slice of a head is whole pairs of matrix instructions and a warp has
 * registers for two tiles of it. Four were slower on an H200 (docs/devlog.md, section 101).
 */
export function fitSlices(dims: ModelDims, blocks: number, steps: readonly SplitStep[]): number {
  const isWhole = steps[0]!.splits === 1;
  const isHalved = dims.headDim === 64 || dims.headDim === 128;
  return isWhole && isHalved && splitsFor(dims, blocks) > 1 ? 2 : 1;
}

/** Weights of a layer that the busiest block streams [bytes]. */
export const layerBytes = (
  products: readonly Pick<StreamProduct, 'op' | 'mostTiles' | 'tileBytes'>[],
): number =>
  products
    .filter(({ op }) => op !== 'lm_head')
    .reduce((sum, { mostTiles, tileBytes }) => sum + mostTiles * tileBytes, 0);

/**
 * Slots under way where the plan says nothing. In a small model blocks wait for each other's words more than for bytes, and a queue in front
 * of the memory delays the words: one. In a large one bytes are all that counts: two. (docs/devlog.md, section 9)
 */
function fitCopies(shapes: readonly ProductShape[], slots: number, slotBytes: number): number {
  return layerBytes(shapes) <= 2 * slots * slotBytes ? 1 : 2;
}

/** The tiles [first, end) of a product that a block has. What is left once all have as many goes to the last blocks, one each: the first ones attend. */
export function tilesOf({ tiles }: Pick<StreamProduct, 'tiles'>, block: number, blocks: number) {
  const without = blocks - (tiles % blocks);
  const before = (i: number) => Math.floor(tiles / blocks) * i + Math.max(0, i - without);
  return { first: before(block), end: before(block + 1) };
}

/**
 * What 16 bytes of the stream are: row and first of 8 columns, as pack.cuh lays them out, and the warp that reads them. `cell` counts the cells
 * of the tiles of a block, of which `firstTile` is the first, `piece` the pieces of a cell. Rows and columns beyond the matrix are zeros.
 */
export function cellOf(
  { cells }: Pick<StreamProduct, 'cells'>,
  firstTile: number,
  cell: number,
  piece: number,
): { row: number; column: number; warp: number } {
  const inTile = cell % cells;
  const warp = inTile % streamWarps;
  const firstOfWarp = Math.floor(cells / streamWarps) * warp + Math.min(warp, cells % streamWarps);
  return {
    row: (firstTile + Math.floor(cell / cells)) * rowTile + Math.floor(piece / 4),
    column:
      (firstOfWarp + Math.floor(inTile / streamWarps)) * cellColumns + ((piece % 4) ^ ((piece >> 3) & 3)) * 8,
    warp,
  };
}

/** Tokens that a block lists for a draw at most. */
export const listedOfBlock = 64;
/** Tokens that the blocks of a row of logits list for a draw at most: kCandidates of templates/cuda/lib/filtered.cuh; stream/draw.cuh checks it. */
export const listedOfRow = 1024;
/** Scratch of the sampler: a key and an id for each candidate, a word for each thread; templates/cuda/stream/choose.cuh checks it. */
export const samplerFloats = 2 * listedOfRow + 32 * streamWarps;

/** Shared memory that the library declares itself [bytes]. */
export const streamStaticBytes = 1024;

/** What the kernels are sized for. */
export interface SizeInput {
  readonly dims: ModelDims;
  readonly target: Target;
  readonly blocks: number;
  readonly slots: number;
  readonly slotBytes: number;
  /** Products whose rows stay in the block until a later stage. */
  readonly kept: readonly OpName[];
}

/** Sets of queries of one kv head: as many as one matrix instruction takes. */
const setsOf = (dims: ModelDims, tokens: number): number =>
  Math.ceil(((dims.qHeads / dims.kvHeads) * tokens) / 8);

/** What SharedMemory of templates/cuda/stream/cta.cuh takes for so many tokens, which it checks or not, and how many slots fit beside it. */
function kernelSize(
  { dims, target, blocks, slots, slotBytes, kept }: SizeInput,
  tokens: number,
  checks: boolean,
): KernelSize {
  const shapes = productOps.map((op) => shapeOf(dims, op, blocks));
  const headPad = padded(dims.headDim);
  const sumTiles = Math.max(1, Math.min(tokens === 1 ? 12 : 6, Math.floor(32 / tokens)));
  const mostCells = Math.max(...shapes.map((p) => p.warpCells));
  const slices = streamWarps * tokens * (mostCells | 1) * 64;
  const group = dims.qHeads / dims.kvHeads;
  const queries = Math.min(8, group * tokens);
  const held = checks ? setsOf(dims, tokens) : 1; // sets of a warp
  const readyQueries = held > 1 || tokens === 1 ? group * tokens : streamWarps * queries; // once for all warps, or for each its own
  const parts = streamWarps * held * (queries * 8 * (headPad / 8 + 4) * 4 + 64);
  const apart = checks ? tokens : 1; // tokens whose own position is apart from the tiles
  const vectors = apart > 1 ? 2 * apart : 1; // their values and keys, or one value
  const attention =
    readyQueries * (headPad + 32) * 2 + parts + 4 * (apart * group + (vectors * headPad) / 2) + 16;
  const own = tokens > 1 ? headBytes(dims) : 128;
  const sums = 2 * sumTiles * rowTile * tokens * (streamWarps + 4) * 4;
  const squares = 2 * tokens * streamWarps * 4;
  const rowsOf = (op: OpName) => shapes.find((p) => p.op === op)!.mostTiles * rowTile * tokens * 4;
  const keptRows = kept.reduce((sum, op) => sum + rowsOf(op), 0);
  const other = Math.max(1024, 512 + 16 * slots); // barriers of the slots, flags, alignment
  const sampler = tokens === 1 ? 4 * samplerFloats : 0; // others leave it to a kernel of its own
  const workBytes =
    Math.max(slices, attention, sampler) + own + sums + squares + rowsOf('o_proj') + keptRows + other;
  const room = target.sharedBytes - streamStaticBytes - workBytes;
  return { tokens, sumTiles, workBytes, slots: Math.min(slots, Math.floor(room / slotBytes)) };
}

/** Shared memory that a pass of so many tokens needs at least [bytes]. */
export const neededBytes = (input: SizeInput, tokens: number): number =>
  streamStaticBytes + kernelSize(input, tokens, false).workBytes + fewestSlots * input.slotBytes;

/**
 * Tokens of a pass that checks drafts; 0: none. As many warps share the positions of its queries as of one token's, so that each has all sets,
 * for whose sums there are registers and shared memory; and all tokens see the same tiles of positions.
 */
function checkTokensFor(input: SizeInput): number {
  const { dims } = input;
  if (dims.kinds.some(({ window }) => window !== null) || setsOf(dims, 1) > 1) return 0;
  const fits = ({ checked, from }: (typeof checkKernels)[number]) =>
    setsOf(dims, checked) * padded(dims.headDim) <= mostHeldElements &&
    streamPlaces(dims).bytes >= from &&
    kernelSize(input, checked, true).slots >= fewestSlots;
  return checkKernels.find(fits)?.checked ?? 0;
}

/** The same of a plan: 0 where it has no kernel of so many tokens, or another one for one. */
export function fitCheckTokens(input: SizeInput, kernels: readonly KernelSize[]): number {
  const tokens = checkTokensFor(input);
  return kernels.some((kernel) => kernel.tokens === tokens) && kernels[0]!.tokens === 1 ? tokens : 0;
}

/** The largest size of a slot, up to the usual one, of which enough fit for a pass of one token; the smallest where none does. */
export function fitSlotBytes(input: Omit<SizeInput, 'slotBytes'>, wanted: StreamScheme['slotBytes']): number {
  if (wanted !== 'fit') return wanted;
  const sizes = slotSizes(input.dims).map((size) => withScales(input.dims, size));
  const most = withScales(input.dims, usualSlotBytes);
  const fits = (slotBytes: number) => kernelSize({ ...input, slotBytes }, 1, false).slots >= fewestSlots;
  return sizes.findLast((size) => size <= most && fits(size)) ?? sizes[0] ?? most;
}

/** The kernels of a plan, or null where not even one token fits. */
export function fitKernels(input: SizeInput, tokens: StreamScheme['tokens']): KernelSize[] | null {
  const { dims } = input;
  const checked = checkTokensFor(input);
  const sized = (n: number) => kernelSize(input, n, n === checked);
  const one = sized(1);
  if (one.slots < fewestSlots) return null;
  const wanted = tokens === 'many' ? streamTokens.filter((n) => n > 1) : [tokens];
  const many =
    wanted
      .filter((n) => (dims.qHeads / dims.kvHeads) * n <= mostQueries)
      .map(sized)
      .find((candidate) => candidate.slots >= fewestSlots) ?? one;
  const sizes = new Set([...smallerKernels, checked]);
  const smaller = [...sizes].filter((n) => 0 < n && n < many.tokens).sort((a, b) => a - b);
  return [...smaller.map(sized), many];
}

/** The ring that the plan asks for, with what was left to `fit`. */
export function fitRing(input: SizeInput, scheme: StreamScheme): Ring {
  const shapes = productOps.map((op) => shapeOf(input.dims, op, input.blocks));
  const { copiesInFlight, handoff, headCopiesInFlight, copy } = scheme;
  const fastest = hasBulkCopies(input.target.arch) ? 'bulk' : 'cp.async';
  return {
    handoff,
    headCopiesInFlight,
    copy: copy === 'fit' ? fastest : copy,
    slotBytes: input.slotBytes,
    copiesInFlight:
      copiesInFlight === 'fit' ? fitCopies(shapes, input.slots, input.slotBytes) : copiesInFlight,
  };
}
