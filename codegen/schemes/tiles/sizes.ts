// Sizes of tiles: how products are cut for short and long prompts, and what shared memory holds.
import type { ModelDims } from '../../model/dims.ts';
import { matrixRowsOf, type OpName, products as productOps } from '../../model/ops.ts';
import { padded } from '../../model/packing.ts';
import type { TilesScheme } from '../../plan/plan.ts';
import type { Target } from '../../schedule/target.ts';
import type { TileKernel } from './schedule.ts';

/** Warps of a block. */
export const tileWarps = 8;
/** Most tokens of a launch. */
export const mostTokens = 1024;
/** Parts that the squares of a token are summed in at most: four warps share the rows of a tile at most. */
export const squareParts = ({ hidden }: Pick<ModelDims, 'hidden'>): number => Math.ceil(hidden / 64) * 4;
/** Columns of a step. */
const stepColumns = 64;
/** Tokens of one unit of attention. */
export const queryTile = 16 * tileWarps;
/** Sides that a tile can have. */
export const tileSides: readonly (64 | 128)[] = [64, 128];
/** Tokens that the tiles of short prompts are chosen for. */
const shortPrompt = 256;

/** One step of a tile [bytes]. */
export const slotBytes = (tokens: number, rows: number): number => (tokens + rows) * stepColumns * 2;

/** Keys and values of one tile of attention [bytes]. */
export const keyTileBytes = ({ headDim }: Pick<ModelDims, 'headDim'>, keyTile: number): number =>
  keyTile * 2 * padded(headDim) * 2;

/** Positions of a tile of attention, of which two are in shared memory; 0: not even the smallest fit. */
export const keyTileFor = (dims: ModelDims, room: number): number =>
  [64, 32, 16].find((tile) => 2 * keyTileBytes(dims, tile) <= room) ?? 0;

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
  const sides = tileSides.filter((rows) => op !== 'qkv_proj' || !input.headRows || rows % dims.headDim === 0);
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
}

const kernelFor = (dims: ModelDims, tokens: number, tokenTile: number, most: number, input: Input) => ({
  most,
  tokens: tokenTile,
  rows: Object.fromEntries(productOps.map((op) => [op, rowsFor(dims, op, tokens, tokenTile, input)])),
});

/** The kernels of a plan: one of small tiles up to the length from which large ones are quicker, and one of large tiles. */
export function tileKernels(dims: ModelDims, most: number, input: Input): TileKernel[] {
  const { tokenTile } = input.scheme;
  if (tokenTile !== 'fit') return [kernelFor(dims, most, tokenTile, most, input)];
  const small = kernelFor(dims, Math.min(shortPrompt, most), 64, most, input);
  const large = kernelFor(dims, most, 128, most, input);
  const cost = (kernel: TileKernel, tokens: number) =>
    productOps
      .filter((op) => op !== 'lm_head')
      .map((op) => tileCost(tokens, matrixRowsOf(op, dims), kernel.tokens, kernel.rows[op]!, input.blocks))
      .reduce((sum, one) => sum + one, 0);
  const lengths = Array.from({ length: Math.ceil(most / 64) }, (_, i) => 64 * (i + 1));
  const first = lengths.find((tokens) => cost(large, tokens) < cost(small, tokens));
  if (first === undefined || most <= 64) return [small];
  return [{ ...small, most: Math.max(64, first - 64) }, large];
}

/** Shared memory of a block: as many steps of the largest tile as are wanted and fit, and two tiles of attention. */
export function sharedFor(
  dims: ModelDims,
  { sharedBytes }: Pick<Target, 'sharedBytes'>,
  kernels: readonly TileKernel[],
  slots: number,
  staticBytes: number,
): { sharedBytes: number; keyTile: number } {
  const room = sharedBytes - staticBytes;
  const keyTile = keyTileFor(dims, room);
  const steps = kernels.flatMap(({ tokens, rows }) =>
    Object.values(rows).map((side) => slots * slotBytes(tokens, side)),
  );
  const wanted = Math.max(2 * keyTileBytes(dims, keyTile), ...steps);
  return { sharedBytes: Math.min(wanted, Math.floor(room / 1024) * 1024), keyTile };
}
