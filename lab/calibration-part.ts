// What one of several threads does of a calibration: the passes of some sequences, and its share of each matrix.
import type { WrittenFormat } from '../quantised/layout.ts';
import { referenceCache, referenceSteps } from '../runtime/reference/reference.ts';
import { partsOfFused, readReferenceModel } from '../runtime/reference/weights.ts';
import { addProducts, columnsOf, factorise, roundByInputs, type Share } from './gptq.ts';

export interface PartInput extends Share {
  readonly directory: string;
  /** Of all parts; it takes every `parts`-th. */
  readonly sequences: readonly (readonly number[])[];
  /** Whether matrices are stored as one, as Phi-3 does. */
  readonly isFused: boolean;
  /** Numbers of the embedding, which all parts read. */
  readonly embedding: Float32Array;
}

/** Where its sequences stop: before the products of these matrices with inputs, one for each sequence, as columns [width, tokens]. */
export interface Stop {
  readonly names: readonly string[];
  readonly width: number;
  readonly inputs: readonly Float32Array[];
}

export const embeddingName = 'model.embed_tokens.weight';

/** Arrays that are handed over are in shared memory, but for rows of a matrix. */
export function calibrationPart({ directory, sequences, isFused, embedding, part, parts }: PartInput) {
  const model = readReferenceModel(directory);
  let held: ReadonlyMap<string, Float32Array> = new Map();
  const plain = (name: string) =>
    name === embeddingName ? embedding : (held.get(name) ?? model.tensors(name));
  const tensors = isFused ? partsOfFused(model.dims, plain) : plain;
  const passes = sequences
    .filter((_, i) => i % parts === part)
    .map((ids) => {
      const cache = referenceCache(model.dims);
      // No logits: the head is not calibrated.
      return { cache, steps: referenceSteps(model.dims, tensors, ids, { cache, firstLogits: ids.length }) };
    });
  return {
    /** Goes on to the next products. @param matrices those that it stopped before, as they are rounded */
    advance: (matrices: ReadonlyMap<string, Float32Array>): Stop | null => {
      held = matrices;
      let stop: Omit<Stop, 'inputs'> | null = null;
      const inputs: Float32Array[] = [];
      for (const { cache, steps } of passes) {
        const { done, value } = steps.next();
        if (done) continue;
        stop = { names: value.names, width: value.width };
        inputs.push(shared(columnsOf(value.inputs, value.width)));
        // What a layer has attended to is not read again.
        for (const rows of [cache.keys, cache.values]) rows.fill(new Float32Array(0));
      }
      return stop && { ...stop, inputs };
    },
    products: (sums: Float64Array, inputs: readonly Float32Array[], width: number) => {
      for (const one of inputs) addProducts(sums, one, width, { part, parts });
    },
    factorise: (sums: Float64Array, made: Float64Array, ready: Int32Array) =>
      factorise(sums, made, ready, { part, parts }),
    round: (format: WrittenFormat, values: Float32Array, width: number, factor: Float64Array) =>
      roundByInputs(format, values, width, factor),
  };
}

/** A copy that threads have in common. */
export function shared(numbers: Float32Array): Float32Array {
  const copy = new Float32Array(new SharedArrayBuffer(numbers.byteLength));
  copy.set(numbers);
  return copy;
}
