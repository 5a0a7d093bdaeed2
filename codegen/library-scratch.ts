// Scratch floats that the kernel libraries use for themselves, as their headers compute them; generated code checks that both agree.
import type { ModelDims } from './dims.ts';
import type { LibraryScratch } from './schedule.ts';
import type { Target } from './target.ts';

export function libraryScratch(_target: Target): LibraryScratch {
  return { attend: (_dims: ModelDims, _group, _tokens) => 8192, sample: () => 4096 };
}
