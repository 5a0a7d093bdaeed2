// What an engine allocates, counted before it is compiled: on a CPU as create() in templates/cpu/backend.cpp does, of a GPU's memory at least.
import type { ModelDims } from './model/dims.ts';
import { packWeights, padded } from './model/packing.ts';
import { cacheRowBytes } from './model/weights.ts';
import { activationBytes } from './schemes/barriers/schedule.ts';
import type { Schedule } from './schemes/index.ts';

/** How an engine is opened. */
export interface Room {
  /** Positions of a sequence. */
  readonly context: number;
  readonly sequences: number;
  readonly threads: number;
}

/** Bytes of an engine. */
export interface EngineBytes {
  readonly weights: number;
  /** Of all sequences, at their full length. Pages of it are taken as positions are. */
  readonly cache: number;
  /** Cosines and sines of all positions. */
  readonly tables: number;
  /** What passes are computed in, their logits, and what each thread has of its own. */
  readonly passes: number;
}

/** Of what does not hang on room and formats: floats of a pass, and tokens of it. */
export type PassSizes = Pick<EngineBytes, 'passes'> & { readonly scratch: number };

/** What passes of a schedule take, for one sequence and no thread [bytes], and what each thread takes. */
export function passSizes(schedule: Schedule): PassSizes {
  if (schedule.scheme !== 'barriers') return { passes: 0, scratch: 0 };
  const { dims, passTokens } = schedule;
  const logits = 4 * passTokens * dims.vocab;
  const ids = 2 * 4 * passTokens;
  return {
    passes: activationBytes(schedule) + logits + ids,
    scratch: 4 * (schedule.scratchFloats + libraryFloats(dims, passTokens)),
  };
}

/** kLibScratchFloats of templates/cpu/lib/scratch.h. */
function libraryFloats({ headDim, qHeads, kvHeads, vocab }: ModelDims, tokens: number): number {
  const queries = tokens * (qHeads / kvHeads) * (padded(headDim) + attendPositions);
  const keys = headDim % 32 === 0 ? 0 : attendPositions * padded(headDim);
  return Math.max(queries + keys, 2 * vocab);
}

const attendPositions = 32;

export function engineBytes(
  dims: ModelDims,
  { passes, scratch }: PassSizes,
  { context, sequences, threads }: Room,
): EngineBytes {
  const counts = 4 * sequences * dims.vocab;
  return {
    weights: packWeights(dims).bytes,
    cache: sequences * context * dims.layers * dims.kvHeads * 2 * cacheRowBytes(dims),
    tables: 4 * context * dims.headDim,
    passes: passes + counts + threads * scratch,
  };
}
