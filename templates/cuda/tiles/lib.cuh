// The kernel library of prompts. prompt.h is included before.
#pragma once
#include "attention.cuh"
#include "head_rows.cuh"
#include "heads.cuh"
#include "norm.cuh"
#include "product.cuh"
#include "rounded.cuh"
#include "unpack.cuh"

namespace tiles {

/** By all threads, once: what those that feed and those that compute wait for. Without wgmma none feed. */
DEVICE void start_rings(Block& b) {
#if WGMMA
  start_slots(b);
  start_positions(b);
  if (b.feeds) return void(b.release.wait());
  if (threadIdx.x == 0) b.release.give(false);
  computing_sync();
#endif
}

}  // namespace tiles
