// A stream kernel that loses a word.
import type { Kernel } from '../../codegen/index.ts';
import { changedKernel } from './changed-kernel.ts';

/**
 * The same kernel, which once does not publish the first word of epoch 5. Epochs count layers since the start of a launch, and qwen3-tiny has 6:
 * it is a word of q, k or v in the last layer of the first launch, which feeds the first 16 tokens of the prompt. Its head waits for it.
 */
export function losingWord(kernel: Kernel): Kernel {
  const file = 'stream/words.cuh';
  const parts = (kernel.sources[file] ?? '').split(/(?=template <int Size>\nstruct Exchange \{)/);
  const publish = /(?<=DEVICE void publish\(int epoch, [^)]*\) const \{\n)/g;
  const changes = [...(parts[1] ?? '').matchAll(publish)].length;
  if (parts.length !== 2 || changes !== 2)
    throw new Error(`${file} has another Exchange than this test knows`);
  const lose = '    if (epoch == 5 && atomicExch(&lost, 1) == 0) return;\n';
  const text = `${parts[0]}__device__ int lost;\n\n${parts[1]!.replaceAll(publish, lose)}`;
  return changedKernel(kernel, 'lost-word', file, text);
}
