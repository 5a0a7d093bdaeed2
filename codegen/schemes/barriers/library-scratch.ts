// Scratch that the CUDA library uses for itself, as its headers compute it; generated code checks that both agree.
// On the CPU the backend adds the library's share.

import type { LibraryScratch } from './schedule.ts';
import { ringBytes, type Tuning } from './tuning.ts';

/** Candidates that the sampler keeps in scratch, a key and an id each, beside a word for each thread: kCandidates of filtered.cuh. */
const candidates = 1024;

/** Shared memory that the library declares itself, beside the scratch [bytes]: sums that cross warps, the mbarriers of producers, and what sampling counts. */
const staticSharedBytes = ({ warps, producerWarps, buffers }: Tuning): number =>
  1024 + 512 * warps + (producerWarps > 0 ? 2 * 8 * buffers * (warps - producerWarps) : 0);

export function libraryScratch(tuning: Tuning): LibraryScratch {
  const { warps } = tuning;
  if (warps === 1) return { attend: () => 0, sample: () => 0, staticBytes: 0, ringBytes: 0 };
  return {
    attend: ({ headDim }, group, tokens) => warps * Math.min(2, group * tokens) * (headDim + 2),
    sample: () => 2 * candidates + 32 * warps,
    staticBytes: staticSharedBytes(tuning),
    ringBytes: ringBytes(tuning),
  };
}
