// Words in global memory by which blocks, and the host, tell each other how far they are.
#pragma once
#include "loads.cuh"

/** After this long [ns] a block stops waiting, says so, and the launch ends. */
constexpr unsigned long long kBarrierBudget = 2'000'000'000ull;
/** Polls between two looks at the clock. */
constexpr int kBarrierPolls = 1024;

DEVICE unsigned load_acquire(const unsigned* word) {
  unsigned v;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(__cvta_generic_to_global(word)) : "memory");
  return v;
}

DEVICE void add_release(unsigned* word, unsigned x) {
  asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(word)), "r"(x) : "memory");
}

/** What the host writes. */
DEVICE unsigned load_host(const unsigned* word) {
  unsigned v;
  asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(v) : "l"(__cvta_generic_to_global(word)) : "memory");
  return v;
}
