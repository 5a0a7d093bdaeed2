// Scratch that the CUDA library uses for itself, as its headers compute it; generated code checks that both agree.
// On the CPU the backend adds the library's share.
import type { LibraryScratch } from '../../schedule/schedule.ts';
import { type Target, warpsPerBlock } from '../../schedule/target.ts';

/** Candidates that the sampler keeps in scratch, a key and an id each: kCandidates of sampler.cuh. */
const candidates = 4096;

/** Shared memory that the library declares itself, beside the scratch [bytes]: sums that cross warps, and what sampling counts. */
const staticSharedBytes = 9 * 1024;

export function libraryScratch(target: Target): LibraryScratch {
  if (target.kind === 'cpu') return { attend: () => 0, sample: () => 0, staticBytes: 0 };
  return {
    attend: ({ headDim }, group, tokens) => warpsPerBlock * Math.min(2, group * tokens) * (headDim + 2),
    sample: () => 2 * candidates,
    staticBytes: staticSharedBytes,
  };
}
