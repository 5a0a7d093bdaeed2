// A tile's steps with wgmma (sm_90a): one thread has the copy engine bring both operands, and four warps together multiply them where they lie.
#pragma once
#include "operands.cuh"
#include "wgmma.cuh"

namespace tiles {

/** A tile of Tokens x Rows: four warps have 64 tokens, each of them 16, and all rows of the tile, or half of them where there are 64 tokens. */
template <int Tokens, int Rows>
struct Shape : Slots<Tokens, Rows> {
  static constexpr int kTokenWarps = Tokens / 16, kRowWarps = kWarps / kTokenWarps;
  static_assert(kTokenWarps == 4 || kTokenWarps == 8, "64 or 128 tokens");
  static constexpr int kMatrices = 1, kGroups = Rows / kRowWarps / 8;

  /** The first token of a warp, which part of the rows it has, and the first group of these. */
  static DEVICE int first_token(int warp) { return warp % kTokenWarps * 16; }
  static DEVICE int row_warp(int warp) { return warp / kTokenWarps; }
  static DEVICE int first_group(int warp) { return warp / kTokenWarps * kGroups; }
};

/** By all threads, once: the slots' barriers. */
DEVICE void start_slots(Block& b) {
  __shared__ uint64_t full[kMostSlots];
  b.full = full;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kMostSlots; ++i) mbarrier_init(full + i, 1);
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
}

/** Returns when what a slot waits for is there. */
DEVICE void wait_slot(Block& b, int slot) {
  while (!mbarrier_try_wait(b.full + slot, b.parity >> slot & 1)) {
  }
  b.parity ^= 1u << slot;
}

/** Begins to copy two cells of some groups of an operand: those of a box of its map. By one thread. */
DEVICE void copy_box(uint32_t to, const CUtensorMap* map, int cell, int group, int layer, uint64_t* full) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(to), "l"(map),
      "r"(shared_address(full)), "r"(0), "r"(cell), "r"(group), "r"(layer)
      : "memory");
}

/** The sums of a tile; meanwhile() runs while the first steps are on their way. */
template <class P, class S, class Meanwhile>
DEVICE void sum_tile(Block& b, float (&sum)[S::kMatrices][S::kGroups][4], const TileOperands& from, Meanwhile&& meanwhile) {
  const uint32_t slots = shared_address(b.shared);
  const CUtensorMap* const input = b.args.maps.input + P::kNumber;
  const CUtensorMap* const weights = b.args.maps.weights + P::kNumber;
  const auto copy = [&](int step) {
    if (threadIdx.x != 0 || step >= P::kSteps) return;
    const int slot = step % S::kSlots;
    const uint32_t to = slots + slot * S::kSlotBytes;
    uint64_t* const full = b.full + slot;
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(full)), "r"(S::kSlotBytes) : "memory");
    copy_box(to, input, 2 * step, from.token_group, 0, full);
    copy_box(to + S::kInputBytes, weights, 2 * step, from.row_group, from.layer, full);
  };
  const uint32_t mine_x = S::first_token(warp()) / 64 * 8 * kStepBytes, mine_w = S::kInputBytes + S::first_group(warp()) * kStepBytes;
  fence_copy_engine();  // the epilogue before may have used the slots
  __syncthreads();      // they have been read
#pragma unroll
  for (int step = 0; step < S::kSlots - 1; ++step) copy(step);
  meanwhile();
#pragma unroll 1
  for (int step = 0; step < P::kSteps; ++step) {
    const int slot = step % S::kSlots;
    const uint32_t at = slots + slot * S::kSlotBytes;
    wait_slot(b, slot);
    if (step == 0) mark_inside(kPhaseWeights);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k) {  // 16 columns
      const uint32_t columns = k / 2 * kCellBytes + k % 2 * 32;
      wgmma<S::kGroups * 8>(sum[0], matrix_at(at + mine_x + columns), matrix_at(at + mine_w + columns));
    }
    wgmma_commit();
    wgmma_wait<1>();
    __syncthreads();  // all have read the slot of the step before
    copy(step + S::kSlots - 1);
  }
  wgmma_wait<0>();
}

}  // namespace tiles
