// Sizes of tiles: how products are cut for short and long prompts, and what shared memory holds.
import type { ModelDims } from '../../model/dims.ts';
import { matrixRowsOf, type OpName, products as productOps } from '../../model/ops.ts';
import { padded } from '../../model/packing.ts';
import type { TilesScheme } from '../../plan/plan.ts';
import { hasWarpgroupProducts } from '../../schedule/platform.ts';
import type { Target } from '../../schedule/target.ts';
import { streamStaticBytes } from '../stream/sizes.ts';
import type { TileKernel } from './schedule.ts';

/** Warps of a block. */
export const tileWarps = 8;
/** Most tokens of a launch. */
export const mostTokens = 2048;
/** Those of a launch that has many: chosen by what a token should cost. */
export const chunks: readonly number[] = [512, 1024, 2048];
/** By so much a longer launch must be quicker for each token: who decodes beside it, or asks to stop, waits for all of it. */
export const worthWaiting = 1.03;
/** Parts that the squares of a token are summed in at most: four warps share the rows of a tile at most. */
export const squareParts = ({ hidden }: Pick<ModelDims, 'hidden'>): number => Math.ceil(hidden / 64) * 4;
/** Columns of a step. */
const stepColumns = 64;
/** Tokens of one unit of attention. */
export const queryTile = 16 * tileWarps;
/** Sides that a tile can have. */
export const tileSides: readonly (64 | 128)[] = [64, 128];
/** Tokens that the tiles of short prompts are chosen for, and the longest that have large ones chosen for them alone. */
const shortPrompt = 256;
const longPrompt = 1024;

/** What multiplies on a target. */
export const multiplyOf = ({ multiply }: Pick<TilesScheme, 'multiply'>, { arch }: Pick<Target, 'arch'>) =>
  multiply === 'fit' ? (hasWarpgroupProducts(arch) ? 'wgmma' : 'mma') : multiply;

/** One step of a tile [bytes]. */
const slotBytes = (tokens: number, rows: number): number => (tokens + rows) * stepColumns * 2;

/** Squares of the heads of a tile, summed by up to four warps each [bytes]. */
const headSumsBytes = ({ headDim, qkNorm }: Pick<ModelDims, 'headDim' | 'qkNorm'>): number =>
  qkNorm ? 4 * tileSides.at(-1)! * Math.max(Math.ceil(tileSides.at(-1)! / headDim), 4) : 0;

/** Results of a tile [bytes]. */
const resultsBytes = (tokens: number, rows: number): number => tokens * rows * 4;

/** Rows of the smallest tiles that all products can have. @param headRows tiles of queries, keys and values have whole heads */
export const leastRows = ({ headDim }: Pick<ModelDims, 'headDim'>, headRows: boolean): number =>
  tileSides.find((rows) => !headRows || rows % headDim === 0) ?? tileSides.at(-1)!;

/** Shared memory that a tile needs at least: two steps, and its results [bytes]. */
export const leastBytes = (tokens: number, rows: number): number =>
  2 * slotBytes(tokens, rows) + resultsBytes(tokens, rows);

/** Shared memory for steps and results, or positions [bytes]. */
export const slotsRoom = (dims: ModelDims, { sharedBytes }: Pick<Target, 'sharedBytes'>): number =>
  sharedBytes - streamStaticBytes - headSumsBytes(dims);

/** Tiles of positions in shared memory: one is copied while another is used, and with wgmma the values of a third and the next are there too. */
const keyTilesOf = (multiply: 'mma' | 'wgmma'): number => (multiply === 'wgmma' ? 4 : 2);

/** Positions that a tile of attention can have. */
const keyTileSides = { mma: [64, 32, 16], wgmma: [64, 32] } as const;

/** The tiles of attention in shared memory [bytes]. */
const positionsBytes = (dims: ModelDims, keyTile: number, multiply: 'mma' | 'wgmma'): number =>
  keyTilesOf(multiply) * keyTile * 2 * padded(dims.headDim) * 2;

/** Those that attention needs at least [bytes]. */
export const leastPositionsBytes = (dims: ModelDims, multiply: 'mma' | 'wgmma'): number =>
  positionsBytes(dims, keyTileSides[multiply].at(-1)!, multiply);

/** Positions of a tile of attention: the largest that fits. */
function keyTileFor(dims: ModelDims, room: number, multiply: 'mma' | 'wgmma'): number {
  const sides = keyTileSides[multiply];
  return sides.find((side) => positionsBytes(dims, side, multiply) <= room) ?? sides.at(-1)!;
}

/**
 * About what a product takes: its tiles one after the other on the busiest multiprocessor, each as long as its results and, since both are
 * loaded, as its edges. An estimate that only tells shapes apart.
 */
function tileCost(tokens: number, rows: number, tokenTile: number, rowTile: number, blocks: number): number {
  const tiles = Math.ceil(tokens / tokenTile) * Math.ceil(rows / rowTile);
  return Math.ceil(tiles / blocks) * (tokenTile * rowTile + 64 * (tokenTile + rowTile));
}

function rowsFor(dims: ModelDims, op: OpName, tokens: number, tokenTile: number, input: Input): number {
  if (input.scheme.rowTile !== 'fit') return input.scheme.rowTile;
  const sides = tileSides.filter(
    (rows) =>
      leastBytes(tokenTile, rows) <= input.room &&
      (op !== 'qkv_proj' || !input.headRows || rows % dims.headDim === 0),
  );
  const cost = (rows: number) => tileCost(tokens, matrixRowsOf(op, dims), tokenTile, rows, input.blocks);
  return sides.reduce(
    (best, rows) => (cost(rows) <= cost(best) ? rows : best),
    sides[0] ?? tileSides.at(-1)!,
  );
}

interface Input {
  readonly scheme: TilesScheme;
  readonly blocks: number;
  /** Tiles of queries, keys and values have whole heads. */
  readonly headRows: boolean;
  /** Shared memory of a block for steps and results [bytes]. */
  readonly room: number;
}

const kernelFor = (dims: ModelDims, tokens: number, tokenTile: number, most: number, input: Input) => ({
  most,
  tokens: tokenTile,
  rows: Object.fromEntries(productOps.map((op) => [op, rowsFor(dims, op, tokens, tokenTile, input)])),
});

/** The kernels of a plan: one of small tiles up to the length from which large ones are quicker, and of large tiles one, or two where rows differ. */
export function tileKernels(dims: ModelDims, most: number, input: Input): TileKernel[] {
  const { tokenTile } = input.scheme;
  if (tokenTile !== 'fit') return [kernelFor(dims, most, tokenTile, most, input)];
  const small = kernelFor(dims, Math.min(shortPrompt, most), 64, most, input);
  if (leastBytes(128, leastRows(dims, input.headRows)) > input.room) return [{ ...small, most }];
  const large = kernelFor(dims, Math.min(longPrompt, most), 128, Math.min(longPrompt, most), input);
  const cost = (kernel: TileKernel, tokens: number) =>
    productOps
      .filter((op) => op !== 'lm_head')
      .map((op) => tileCost(tokens, matrixRowsOf(op, dims), kernel.tokens, kernel.rows[op]!, input.blocks))
      .reduce((sum, one) => sum + one, 0);
  const lengths = Array.from({ length: Math.ceil(large.most / 64) }, (_, i) => 64 * (i + 1));
  const first = lengths.find((tokens) => cost(large, tokens) < cost(small, tokens));
  if (first === undefined || most <= 64) return [small];
  const largest = kernelFor(dims, most, 128, most, input);
  const isSame = productOps.every((op) => large.rows[op] === largest.rows[op]);
  const shortest = { ...small, most: Math.max(64, first - 64) };
  return isSame ? [shortest, largest] : [shortest, large, largest];
}

/** Shared memory of a block: the results of the largest tile and as many of its steps as are wanted and fit, or the tiles of attention; and sums of heads. */
export function sharedFor(
  dims: ModelDims,
  target: Pick<Target, 'sharedBytes'>,
  kernels: readonly TileKernel[],
  slots: number,
  multiply: 'mma' | 'wgmma',
): { sharedBytes: number; slotsBytes: number; resultsBytes: number; keyTile: number; keyTiles: number } {
  const room = slotsRoom(dims, target);
  const keyTile = keyTileFor(dims, room, multiply);
  const keyTiles = keyTilesOf(multiply);
  const ofTiles = (bytes: (tokens: number, rows: number) => number) =>
    Math.max(
      ...kernels.flatMap(({ tokens, rows }) => Object.values(rows).map((side) => bytes(tokens, side))),
    );
  const results = ofTiles(resultsBytes);
  const wanted = Math.max(slots * ofTiles(slotBytes), positionsBytes(dims, keyTile, multiply) - results);
  const slotsBytes = Math.min(wanted, Math.floor((room - results) / 1024) * 1024);
  return {
    sharedBytes: slotsBytes + results + headSumsBytes(dims),
    ...{ slotsBytes, resultsBytes: results, keyTile, keyTiles },
  };
}
