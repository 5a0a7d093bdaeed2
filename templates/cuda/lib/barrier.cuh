// The grid barrier: one counter in global memory, good for any number of launches without a reset, with a time budget; or grid.sync().
#pragma once
#include <cooperative_groups.h>

#include "arrivals.cuh"
#include "profile.cuh"
#include "weights.cuh"

constexpr unsigned kBarrierTop = 0x80000000u;

/** What thread 0 remembers from one grid barrier to the next; in shared memory, where it costs no register of every stage. */
struct BarrierState {
  unsigned sense;  // top bit of the arrivals word before the next grid barrier
  int ordinal;     // grid barriers passed
  bool failed;     // one ran out of time: the others return at once
};

DEVICE BarrierState& barrier_state() {
  __shared__ BarrierState state;
  return state;
}

/** The block of this launch. The top bit of the arrivals word cannot turn before this block has arrived, so it may be read late. */
DEVICE Block make_block(float* scratch, unsigned* barrier) {
  if (threadIdx.x == 0)
    barrier_state() = {load_relaxed(barrier + kBarrierArrivals) & kBarrierTop, 0, load_relaxed(barrier + kBarrierError) != 0};
  start_handover();
  return {scratch, barrier, 0};
}

/**
 * Returns when all blocks have called it; what they wrote before is visible after.
 * With kGridSync the launch has no watchdog. Block 0 adds 2^31 - (blocks - 1), every other block 1: the top bit turns with the last arrival, and the rest is zero again.
 */
DEVICE void grid_barrier(Block& b) {
  mark_phase(kPhaseCompute);
  if constexpr (kGridSync) {
    cooperative_groups::this_grid().sync();
    mark_phase(kPhaseOthers);
    return;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    mark_phase(kPhaseMeet);
    BarrierState& state = barrier_state();
    const unsigned sense = state.sense;
    state.sense = sense ^ kBarrierTop;
    ++state.ordinal;
    if (!state.failed) {
      unsigned* const arrivals = b.barrier + kBarrierArrivals;
      add_release(arrivals, opaque(b.index()) == 0 ? kBarrierTop - unsigned(b.count() - 1) : 1u);
      unsigned long long since = 0;
      for (int poll = 1; ((load_acquire(arrivals) ^ sense) & kBarrierTop) == 0; ++poll) {
        if (poll % kBarrierPolls != 0) continue;
        const unsigned long long now = nanoseconds();
        if (since == 0) since = now;
        const bool late = now - since > kBarrierBudget;
        if (late && atomicCAS(b.barrier + kBarrierError, 0u, 1u + unsigned(b.index())) == 0u)
          b.barrier[kBarrierOrdinal] = unsigned(state.ordinal);
        if (late || load_relaxed(b.barrier + kBarrierError) != 0) {
          state.failed = true;
          break;
        }
      }
    }
    mark_phase(kPhaseOthers);
  }
  __syncthreads();
}
