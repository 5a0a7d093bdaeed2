// Matrices of a model by their inputs over a text: layer by layer, through the layers that are rounded already.
import { OnelaunchError } from '../errors.ts';
import { referenceCache, referenceSteps } from '../runtime/reference/reference.ts';
import { partsOfFused, readReferenceModel } from '../runtime/reference/weights.ts';
import type { TensorEntry } from '../runtime/weights/safetensors.ts';
import { addProducts, factorise } from './gptq.ts';

export type Matrix = readonly [name: string, entry: TensorEntry];

interface CalibrationWork {
  /** All that are rounded. */
  readonly matrices: readonly Matrix[];
  /** Rounds one by the factor of its inputs, and gives the numbers that it has then. */
  readonly rounded: (matrix: Matrix, factor: Float64Array) => Promise<Float32Array>;
  /** Called between parts of the work; what it throws ends it. */
  readonly pause: () => Promise<void>;
}

/** Feeds sequences of tokens to the float32 reference, and has each matrix rounded before anything is multiplied by it: once each, in the order of the pass.
 *  Held are a layer's inputs of all tokens and the matrices of one of its products, in float32. @throws OnelaunchError usage where inputs are not finite */
export async function calibrateMatrices(
  directory: string,
  sequences: readonly (readonly number[])[],
  { matrices, rounded, pause }: CalibrationWork,
): Promise<void> {
  const model = readReferenceModel(directory);
  const stored = new Map(matrices.map((matrix) => [matrix[0].replace(/^(?:model\.)?/, 'model.'), matrix]));
  const held = new Map<string, Float32Array>();
  const plain = (name: string) => held.get(name) ?? model.tensors(name);
  const isFused = matrices.some(([name]) => fusedNames.some((fused) => name.includes(fused)));
  const tensors = isFused ? partsOfFused(model.dims, plain) : plain;
  const passes = sequences.map((ids) => {
    const cache = referenceCache(model.dims);
    // No logits: the head is not calibrated.
    return { cache, steps: referenceSteps(model.dims, tensors, ids, { cache, firstLogits: ids.length }) };
  });
  for (;;) {
    let names: readonly string[] = [];
    let width = 0;
    let sums = new Float64Array(0);
    for (const { cache, steps } of passes) {
      const { done, value } = steps.next();
      if (done) continue;
      if (width === 0) {
        ({ names, width } = value);
        sums = new Float64Array(width * width);
      }
      addProducts(sums, value.inputs, width);
      // What a layer has attended to is not read again.
      for (const rows of [cache.keys, cache.values]) rows.fill(new Float32Array(0));
      await pause();
    }
    if (width === 0) return;
    for (let i = 0; i < width; i++) if (!Number.isFinite(sums[i * width + i])) throw notFinite(names[0]!);
    await factorise(sums, width, pause);
    held.clear();
    for (const name of new Set(names.map((part) => (stored.has(part) ? part : fusedOf(part)))))
      held.set(name, await rounded(stored.get(name)!, sums));
  }
}

const fusedNames = ['.qkv_proj.', '.gate_up_proj.'] as const;

/** The matrix that has the rows of this one. */
const fusedOf = (part: string) =>
  part.replace(/\.[qkv]_proj\./, fusedNames[0]).replace(/\.(?:gate|up)_proj\./, fusedNames[1]);

const notFinite = (name: string) =>
  new OnelaunchError('usage', `over this text the inputs of ${name} are not finite`, {
    hint: "copy the weights from the model's own repository again, or give another text",
  });
