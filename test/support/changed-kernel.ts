// A kernel that goes wrong: the sources of a generated one with another text in them.
import { createHash } from 'node:crypto';
import type { Kernel } from '../../codegen/index.ts';

/** The kernel with other text in one of its files, under a name and a hash of its own, so that it is not found among what was built. */
export function changedKernel(kernel: Kernel, label: string, file: string, text: string): Kernel {
  const hash = createHash('sha256')
    .update(kernel.hash)
    .update(text)
    .digest('hex')
    .slice(0, kernel.hash.length);
  const sources = Object.entries({ ...kernel.sources, [file]: text }).map(([name, content]) => [
    name,
    content.replaceAll(kernel.hash, hash),
  ]);
  return { ...kernel, name: `${kernel.name}-${label}`, hash, sources: Object.fromEntries(sources) };
}
