// A thread block and how work is dealt to blocks, warps and threads; sums over a warp and over a block.
#pragma once
#include "loads.cuh"

/** What a stage knows of the block that runs it. */
struct Block {
  float* scratch;     // shared memory, kScratchFloats
  unsigned* barrier;  // Pass.barrier
  unsigned handed;    // buffers that producers have handed to each warp

  DEVICE int index() const { return int(blockIdx.x); }
  DEVICE int count() const { return int(gridDim.x); }
  DEVICE int threads() const { return kThreads; }
};

/**
 * x, but nothing computed from it moves in front of this point. Stages use it on their thread's number: otherwise the compiler computes
 * the addresses of all stages before the layer loop, and registers run out.
 */
DEVICE int opaque(int x) {
  asm volatile("" : "+r"(x));
  return x;
}

/** True if a block's shared scratch holds so many floats. */
BOTH constexpr bool scratch_fits(int floats) { return floats <= kScratchFloats; }

DEVICE int lane() { return int(threadIdx.x) & 31; }
DEVICE int warp() { return int(threadIdx.x) >> 5; }

/** Barrier of some warps of the block; id 1..15, threads a multiple of 32. */
DEVICE void warps_sync(int id, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }

/** All computing threads of the block meet. */
DEVICE void block_sync() {
  if constexpr (kProducerThreads == 0)
    __syncthreads();
  else
    warps_sync(1, kThreads);
}

/** The device's clock. */
DEVICE unsigned long long nanoseconds() {
  unsigned long long t;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(t));
  return t;
}

/** The first of n things that belongs to part i when they are dealt to `parts` parts, whose numbers are within one of each other. */
BOTH constexpr int dealt(int n, int i, int parts) { return n / parts * i + n % parts * i / parts; }

/** Rows [begin, end) of n, contiguous, their numbers within one of each other; all blocks cover n. */
DEVICE Range block_range(Block& b, int n) {
  return {dealt(n, b.index(), b.count()), dealt(n, b.index() + 1, b.count())};
}

/** body(i) for i in [0, n), each by one warp. */
template <class Body>
DEVICE void for_warps(Block&, int n, Body&& body) {
  for (int i = warp(); i < n; i += kWarps) body(i);
}

/** body(i) for i in [0, n), each by one thread. */
template <class Body>
DEVICE void for_threads(Block&, int n, Body&& body) {
  for (int i = int(threadIdx.x); i < n; i += kThreads) body(i);
}

/** Sum and maximum over the four lanes that share a row of a matrix instruction's result. */
DEVICE float quad_sum(float x) {
  x += __shfl_xor_sync(~0u, x, 1);
  return x + __shfl_xor_sync(~0u, x, 2);
}
DEVICE float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
  return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}

DEVICE float warp_sum(float x) {
#pragma unroll
  for (int other = 16; other > 0; other /= 2) x += __shfl_xor_sync(~0u, x, other);
  return x;
}

/** Sums N values over the lanes at once, N a power of two: lane l gets the sum of value l % N. Destroys v. */
template <int N>
DEVICE float warp_sums(float (&v)[N]) {
  static_assert(N >= 1 && N <= 32 && (N & (N - 1)) == 0, "one value a lane");
#pragma unroll
  for (int half = N / 2; half >= 1; half /= 2) {
    const bool upper = lane() & half;
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const float kept = upper ? v[i + half] : v[i];
      const float sent = upper ? v[i] : v[i + half];
      v[i] = kept + __shfl_xor_sync(~0u, sent, half);
    }
  }
#pragma unroll
  for (int other = N; other < 32; other *= 2) v[0] += __shfl_xor_sync(~0u, v[0], other);
  return v[0];
}
