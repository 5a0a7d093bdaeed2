// A kernel that goes wrong: the sources of a generated one with another text in them.
import { createHash } from 'node:crypto';
import type { Kernel } from '../../codegen/index.ts';

/** What is replaced in a file, where it stands first. */
export type Change = readonly [file: string, from: string | RegExp, to: string];

/** The kernel with other text in some of its files, as changedKernel has it. @throws Error where what is replaced does not stand there */
export function replacedIn(kernel: Kernel, label: string, changes: readonly Change[]): Kernel {
  const texts: Record<string, string> = {};
  for (const [file, from, to] of changes) {
    const before = texts[file] ?? kernel.sources[file] ?? '';
    texts[file] = before.replace(from, to);
    if (texts[file] === before) throw new Error(`${file} is not changed by ${from}`);
  }
  return withTexts(kernel, label, texts);
}

/** The kernel with other text in one of its files, under a name and a hash of its own, so that it is not found among what was built. */
export const changedKernel = (kernel: Kernel, label: string, file: string, text: string): Kernel =>
  withTexts(kernel, label, { [file]: text });

function withTexts(kernel: Kernel, label: string, texts: Readonly<Record<string, string>>): Kernel {
  const hash = createHash('sha256')
    .update([kernel.hash, ...Object.values(texts)].join(''))
    .digest('hex')
    .slice(0, kernel.hash.length);
  const sources = Object.entries({ ...kernel.sources, ...texts }).map(([name, content]) => [
    name,
    content.replaceAll(kernel.hash, hash),
  ]);
  return { ...kernel, name: `${kernel.name}-${label}`, hash, sources: Object.fromEntries(sources) };
}
