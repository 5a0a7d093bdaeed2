// Scratch that the CUDA library uses for itself, as its headers compute it; generated code checks that both agree.
// On the CPU the backend adds the library's share.

import { platformOf, type Target } from '../../schedule/target.ts';
import type { LibraryScratch } from './schedule.ts';

/** Candidates that the sampler keeps in scratch, a key and an id each: kCandidates of sampler.cuh. */
const candidates = 4096;

/** Shared memory that the library declares itself, beside the scratch [bytes]: sums that cross warps, and what sampling counts. */
const staticSharedBytes = 9 * 1024;

export function libraryScratch(target: Target): LibraryScratch {
  const { warps } = platformOf(target);
  if (warps === 1) return { attend: () => 0, sample: () => 0, staticBytes: 0 };
  return {
    attend: ({ headDim }, group, tokens) => warps * Math.min(2, group * tokens) * (headDim + 2),
    sample: () => 2 * candidates,
    staticBytes: staticSharedBytes,
  };
}
