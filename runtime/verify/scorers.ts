// What can be verified: the interface of a scorer, and the reference as one.

import type { ReferenceFormats } from '../reference/blocks.ts';
import {
  type CacheStorage,
  type ReferenceOps,
  referenceCache,
  referenceSteps,
} from '../reference/reference.ts';
import { type ReferenceModel, readReferenceModel } from '../reference/weights.ts';

/** What is verified: anything that scores a sequence and continues one. */
export interface Scorer {
  readonly vocab: number;
  /** Calls onRows once for each row in [first, ids.length), ascending; logits [vocab] are valid during the call only. */
  score(
    ids: readonly number[],
    first: number,
    onRows: (row: number, logits: Float32Array) => void,
  ): Promise<void>;
  /** The n most likely ids after `ids`, one by one; end tokens do not stop it. */
  greedy(ids: readonly number[], n: number): Promise<readonly number[]>;
  /** Forgets all tokens. Called before every score and greedy. */
  reset(): void | Promise<void>;
}

/** Independent TypeScript engine of a checkpoint folder, in the place of one under test. */
export function referenceScorer(
  model: string | ReferenceModel,
  options: {
    readonly storage?: CacheStorage;
    readonly ops?: ReferenceOps;
    /** That the matrices of a folder are rounded to. */
    readonly formats?: ReferenceFormats | undefined;
    /** By which LongRoPE chooses its factors. @default the model's */
    readonly maxPositions?: number | undefined;
    /** Waited for between the products of a layer: a pass of a model of 0.6 B keeps the process busy for seconds. */
    readonly pause?: (() => Promise<void>) | undefined;
  } = {},
): Scorer {
  const read = typeof model === 'string' ? readReferenceModel(model, options.formats) : model;
  const { tensors } = read;
  const dims = { ...read.dims, maxPositions: options.maxPositions ?? read.dims.maxPositions };
  const { vocab } = dims;
  const { storage = 'fp32', ops = {}, pause } = options;
  let cache = referenceCache(dims);
  const forward = async (ids: readonly number[], firstLogits: number): Promise<Float32Array> => {
    const steps = referenceSteps(dims, tensors, ids, { cache, storage, ops, firstLogits });
    for (;;) {
      const { done, value } = steps.next();
      if (done) return value;
      await pause?.();
    }
  };
  return {
    vocab,
    reset() {
      cache = referenceCache(dims);
    },
    async score(ids, first, onRows) {
      const logits = await forward(ids, first);
      for (let row = first; row < ids.length; row++) {
        onRows(row, logits.subarray((row - first) * vocab, (row - first + 1) * vocab));
      }
    },
    async greedy(ids, n) {
      const made: number[] = [];
      for (let fed = ids; made.length < n; fed = made.slice(-1)) {
        made.push(argmax(await forward(fed, fed.length - 1)));
      }
      return made;
    },
  };
}

/** The lowest id among the largest. */
export function argmax(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}
