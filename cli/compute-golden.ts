// Logits and tokens of the built-in reference, for a model that has no golden file.
import type { ModelDims } from '../codegen/model/dims.ts';
import type { ReferenceNumbers } from '../lab/reference-golden.ts';
import type { Golden } from '../runtime/verify/golden.ts';
import type { Ui } from './ui.ts';

/** In the numbers of a kernel, and told on a terminal how far it is. @param dims as the kernel has them @param ops what its plan computes otherwise */
export async function computeGolden(
  ui: Ui,
  directory: string,
  { weights: formats, cache, maxPositions }: ModelDims,
  ops: ReferenceNumbers['ops'] & object,
): Promise<Golden> {
  const { referenceGolden } = await import('../lab/reference-golden.ts');
  const progress = ui.progress('computing the reference');
  try {
    const onProgress = (done: number, total: number) => {
      ui.io.signal.throwIfAborted();
      progress.update(done / total, `${done} of ${total} tokens`);
    };
    return await referenceGolden(directory, onProgress, { ops, formats, cache, maxPositions });
  } finally {
    progress.end();
  }
}
