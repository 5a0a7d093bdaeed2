// A block of a prompt's launch, and the barrier at which all blocks meet between stages. prompt.h is included before.
#pragma once
#include "lib/arrivals.cuh"
#include "lib/mbarrier.cuh"
#include "stream/rows.cuh"

namespace tiles {

DEVICE int lane() { return opaque(int(threadIdx.x)) & 31; }
DEVICE int warp() { return opaque(int(threadIdx.x)) >> 5; }

/** Threads of a launch: with wgmma four warps more, one of which has the copy engine feed those that compute. */
constexpr int kLaunchThreads = kThreads + WGMMA * 128;
/** Returns when all threads that compute have called it. */
DEVICE void computing_sync() { warps_sync(1, kThreads); }

/** Where warps that feed wait for thread 0, each from a place of its own: they share no barrier with those that compute. */
class Release {
 public:
  /** By all threads, once, before any go their own way. */
  DEVICE static void start() {
#if WGMMA
    if (threadIdx.x == 0) mbarrier_init(barrier(), 1 + kFeedingWarps), publish_mbarriers();
    __syncthreads();
#endif
  }
  /** By thread 0: lets them go on, with a word. */
  DEVICE void give(bool word) {
#if WGMMA
    // They have arrived there, hence read the word before that.
    while (!mbarrier_test_wait(barrier(), parity_ ^ 1)) {
    }
    words()[parity_] = word;
    mbarrier_arrive(barrier());
    parity_ ^= 1;
#endif
  }
  /** By them: returns the word when it is given. */
  DEVICE bool wait() {
    __syncwarp();  // one lane may have fed alone
    if (lane() == 0) mbarrier_arrive(barrier());
    while (!mbarrier_test_wait(barrier(), parity_)) {
    }
    const bool word = words()[parity_];
    parity_ ^= 1;
    return word;
  }

 private:
  static constexpr int kFeedingWarps = (kLaunchThreads - kThreads) / 32;
  DEVICE static uint64_t* barrier() {
    __shared__ uint64_t place;
    return &place;
  }
  DEVICE static volatile bool* words() {
    __shared__ bool places[2];
    return places;
  }
  unsigned parity_ = 0;
};

/** The slots of shared memory, which one warp fills and the others use, one behind the other: where a thread of either is. */
struct Ring {
  uint64_t *full = nullptr, *empty = nullptr;  // [kMostSlots] barriers
  int slot = 0;
  unsigned parity = 0;

  /** By all threads, once, before they meet. @param fillers arrivals by which a slot is filled */
  DEVICE void start(uint64_t* full_barriers, uint64_t* empty_barriers, int slots, int fillers) {
    full = full_barriers, empty = empty_barriers;
    if (threadIdx.x != 0) return;
    for (int i = 0; i < slots; ++i) mbarrier_init(full + i, fillers), mbarrier_init(empty + i, kWarps);
    publish_mbarriers();
  }
  DEVICE void go_on(int slots) {
    if (++slot == slots) slot = 0, parity ^= 1;
  }
  /** Returns when the slot is filled. */
  DEVICE void wait_filled() const { wait(full, parity); }
  /** Returns when all warps that compute have used what was in the slot before. */
  DEVICE void wait_free() const { wait(empty, parity ^ 1); }

 private:
  DEVICE void wait(const uint64_t* barriers, unsigned phase) const {
    while (!mbarrier_try_wait(barriers + slot, phase)) {
    }
  }
};

struct Block {
  const PromptArgs& args;
  char* shared;         // kSharedBytes: slots of steps, or positions of attention; behind them sums of heads
  const bool feeds;     // this warp is one of those that do not compute
  unsigned passed = 0;  // barriers, as thread 0 counts them
  bool leaves = false;  // the host has asked to stop, or a block has waited too long: nothing more is computed
  Release release;
  Ring ring, positions;  // of steps, of tiles of positions

  DEVICE int index() const { return int(blockIdx.x); }
  DEVICE int count() const { return int(gridDim.x); }
  DEVICE int tokens() const { return args.pass.tokens; }
  DEVICE int position() const { return args.pass.position; }
};

/** What threads have written is there for the copy engine, and the reverse. */
DEVICE void fence_copy_engine() {
#if WGMMA
  asm volatile("fence.proxy.async;" ::: "memory");
#endif
}

/** The same of shared memory alone. */
DEVICE void fence_shared() {
#if WGMMA
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

/** Thread 0: returns when all blocks have arrived at barrier `ordinal`, or one of them has waited too long. */
DEVICE void wait_for_blocks(unsigned* barrier, unsigned ordinal) {
  unsigned long long since = 0;
  for (int poll = 1; load_acquire(barrier + kArrivals) < ordinal * gridDim.x; ++poll) {
    if (poll % kBarrierPolls != 0) continue;
    const unsigned long long now = nanoseconds();
    if (since == 0) since = now;
    const bool late = now - since > kBarrierBudget;
    if (late && atomicCAS(barrier + kLate, 0u, 1u + blockIdx.x) == 0u) barrier[kLate + 1] = ordinal;
    if (load_relaxed(barrier + kLate) != 0) return;
  }
}

/** Returns when all blocks have called it; what they wrote before is visible after. All of them leave behind the same one. */
DEVICE void grid_barrier(Block& b) {
  __shared__ bool leaves;
  unsigned* const barrier = b.args.barrier;
  mark_phase(kPhaseCompute);
  if (b.feeds) {
    b.leaves = b.release.wait();
    fence_copy_engine();
    return;
  }
  fence_copy_engine();
  computing_sync();
  if (threadIdx.x == 0) {
    mark_phase(kPhaseMeet);
    const unsigned ordinal = ++b.passed;
    // Block 0 asks the host, and says so before it arrives: whoever is behind this barrier knows.
    if (blockIdx.x == 0 && load_relaxed(barrier + kStopAt) == 0 && load_host(b.args.pass.stop_request) != 0) barrier[kStopAt] = ordinal;
    __threadfence();
    add_release(barrier + kArrivals, 1);
    wait_for_blocks(barrier, ordinal);
    const unsigned stop_at = load_relaxed(barrier + kStopAt);
    leaves = load_relaxed(barrier + kLate) != 0 || (stop_at != 0 && stop_at <= ordinal);
    b.release.give(leaves);
    mark_phase(kPhaseOthers);
  }
  computing_sync();
  fence_copy_engine();
  b.leaves = leaves;
}

/** The first part's blocks, then the second's: 0, 1, 2, ..., n - 1, n - 1, ..., 1, 0. */
DEVICE int snake(int turn, int index, int count) { return turn * count + (turn % 2 == 0 ? index : count - 1 - index); }

}  // namespace tiles
