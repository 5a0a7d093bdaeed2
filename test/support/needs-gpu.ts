// Before the tests of a GPU: they run on one, or not at all.
import { findGpu } from '../../codegen/build/gpus.ts';
import { findNvcc } from '../../codegen/build/tools.ts';

export function setup(): void {
  const missing = !findGpu() ? 'no NVIDIA GPU was found' : !findNvcc() ? 'nvcc was not found' : null;
  if (missing) throw new Error(`test:cuda needs a GPU and nvcc: ${missing}`);
}
