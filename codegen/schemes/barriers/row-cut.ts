// How one token's product is cut for the warps of a block of a GPU: RowCut of templates/cuda/lib/one_token.cuh, as numbers.
import { padded } from '../../model/packing.ts';

export interface RowCut {
  /** Warps that share a row, and groups of so many. */
  readonly slices: number;
  readonly groups: number;
  /** Warp-wide loads of a slice of a row; those of one matrix that are under way at once; and in how many waves all are. */
  readonly slice: number;
  readonly wave: number;
  readonly waves: number;
  /** Rows that a group takes together. */
  readonly rows: number;
}

interface CutInput {
  readonly columns: number;
  /** Matrices that are interleaved. */
  readonly parts: number;
  /** Warps of a block that multiply. */
  readonly warps: number;
  /** Weights of a load of a lane. */
  readonly loadElements: number;
  readonly loadsInFlight: number;
}

const mostGroups = 15;

function slicesOf(chunks: number, warps: number): number {
  let slices = chunks < 2 ? 1 : chunks <= 32 ? 2 : chunks <= 64 ? 4 : 8;
  while (warps % slices !== 0) slices /= 2;
  if (slices > 1 && warps / slices > mostGroups) slices = chunks < 4 ? 1 : 4;
  return slices;
}

export function rowCut({ columns, parts, warps, loadElements, loadsInFlight }: CutInput): RowCut {
  const chunks = Math.ceil(padded(columns) / (32 * loadElements));
  const slices = slicesOf(chunks, warps);
  const slice = Math.ceil(chunks / slices);
  const most = Math.max(1, Math.floor(loadsInFlight / parts));
  const wave = Math.ceil(slice / Math.ceil(slice / most));
  const waves = Math.ceil(slice / wave);
  const rows = waves === 1 ? Math.min(8, Math.floor(most / wave)) : 1;
  return { slices, groups: warps / slices, slice, wave, waves, rows };
}

/** Turns that the busiest group takes for so many rows of a block. */
export const turnsFor = ({ groups, rows }: RowCut, rowsOfBlock: number): number =>
  Math.ceil(Math.ceil(rowsOfBlock / groups) / rows);
