// Weights that are asked for before they are used.
#pragma once
#include "block.cuh"

/** Starts bringing the rows into L2; they are one contiguous run of bytes. */
template <int K, int Parts>
DEVICE void prefetch_rows(Block&, const Matrix* w, Range rows) {
  const char* const first = reinterpret_cast<const char*>(w + size_t(rows.begin) * Parts * padded(K));
  const unsigned bytes = unsigned(rows.end - rows.begin) * unsigned(Parts * padded(K) * sizeof(Matrix));
#if __CUDA_ARCH__ >= 900
  constexpr unsigned kPiece = 4096;  // a multiple of 16, as is a row
  for (unsigned at = threadIdx.x * kPiece; at < bytes; at += kThreads * kPiece)
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(__cvta_generic_to_global(first + at)),
                 "r"(min(kPiece, bytes - at)));
#else
  for (unsigned at = threadIdx.x * 128; at < bytes; at += kThreads * 128)
    asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(first + at)));
#endif
}

/** The same for rows [0, n) by the blocks that have none of a stage's `units`: all others do nothing. */
template <int K, int Parts>
DEVICE void prefetch_idle(Block& b, int units, const Matrix* w, int n) {
  const int mine = opaque(b.index()) - units, idle = b.count() - units;
  if (mine >= 0) prefetch_rows<K, Parts>(b, w, {dealt(n, mine, idle), dealt(n, mine + 1, idle)});
}
