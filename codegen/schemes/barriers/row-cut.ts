// How one token's product is cut for the warps of a block of a GPU: RowCut of templates/cuda/lib/one_token.cuh, as numbers.
import type { ModelDims } from '../../model/dims.ts';
import { dtypeBytes } from '../../model/formats.ts';
import { columnsOf, type OpName, productOf } from '../../model/ops.ts';
import { padded } from '../../model/packing.ts';
import type { Tuning } from './tuning.ts';

export interface RowCut {
  /** Warp-wide loads of a row. */
  readonly chunks: number;
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
  return { chunks, slices, groups: warps / slices, slice, wave, waves, rows };
}

/** The cut of a product of a model by the options of its kernel. */
export function rowCutOf(op: OpName, dims: ModelDims, tuning: Tuning): RowCut {
  const { warps, producerWarps, loadBits, loadsInFlight } = tuning;
  const columns = columnsOf(op, dims);
  const { interleave: parts } = productOf(op);
  const loadElements = loadBits / 8 / dtypeBytes[dims.dtype];
  return rowCut({ columns, parts, warps: warps - producerWarps, loadElements, loadsInFlight });
}

/** No warp is without a part of a row: the template compiles nothing else. */
export const isCovered = ({ chunks, slices, slice }: RowCut): boolean => (slices - 1) * slice <= chunks;

/** Turns that the busiest group takes for so many rows of a block. */
export const turnsFor = ({ groups, rows }: RowCut, rowsOfBlock: number): number =>
  Math.ceil(Math.ceil(rowsOfBlock / groups) / rows);
