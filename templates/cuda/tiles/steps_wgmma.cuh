// A tile's steps with wgmma (sm_90a): one thread has the copy engine bring both operands, and four warps together multiply them where they lie.
#pragma once
#include "operands.cuh"
#include "wgmma.cuh"

namespace tiles {

/** A tile of Tokens x Rows: four warps have 64 tokens, each of them 16, and all rows of the tile, or half of them where there are 64 tokens. */
template <int Tokens, int Rows, int SlotBytes>
struct Shape : Slots<Tokens, Rows, SlotBytes> {
  static constexpr int kTokenWarps = Tokens / 16, kRowWarps = kWarps / kTokenWarps;
  static_assert(kTokenWarps == 4 || kTokenWarps == 8, "64 or 128 tokens");
  static constexpr int kMatrices = 1, kGroups = Rows / kRowWarps / 8;

  /** The first token of a warp, which part of the rows it has, and the first group of these. */
  static DEVICE int first_token(int warp) { return warp % kTokenWarps * 16; }
  static DEVICE int row_warp(int warp) { return warp / kTokenWarps; }
  static DEVICE int first_group(int warp) { return warp / kTokenWarps * kGroups; }
};

/** Barriers of the slots, which one lane fills. */
DEVICE void start_slots(Block& b) {
  __shared__ uint64_t full[kMostSlots], empty[kMostSlots];
  b.ring.start(full, empty, kMostSlots, 1);
}

/** Begins to copy two cells of some groups of an operand: those of a box of its map. By one thread. */
DEVICE void copy_box(uint32_t to, const CUtensorMap* map, int cell, int group, int layer, uint64_t* full) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(to), "l"(map),
      "r"(shared_address(full)), "r"(0), "r"(cell), "r"(group), "r"(layer)
      : "memory");
}

/** The steps of this block's tiles of a product, which go through the ring one behind the other: those of the next tile during an epilogue. */
template <class P, class S>
class Steps {
 public:
  DEVICE Steps(Block& b, const Work<P, S>&)
      : ring_(b.ring),
        tokens_(matrix_at<kStepBytes>(shared_address(b.shared) + S::first_token(warp()) / 64 * 8 * kStepBytes)),
        rows_(matrix_at<kStepBytes>(shared_address(b.shared) + S::kInputBytes + S::first_group(warp()) * kStepBytes)) {}

  /** The sums of the next tile. */
  DEVICE void sum(int, float (&sum)[S::kMatrices][S::kGroups][4]) {
#pragma unroll 1
    for (int step = 0; step < P::kSteps; ++step) {
      const int slot = ring_.slot, at = slot * (S::kSlotBytes / 16);
      ring_.wait_filled();
      if (step == 0) mark_inside(kPhaseWeights);
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < 4; ++k) {  // 16 columns
        const int columns = at + (k / 2 * kCellBytes + k % 2 * 32) / 16;
        wgmma<S::kGroups * 8>(sum[0], tokens_ + columns, rows_ + columns);
      }
      wgmma_commit();
      if (step > 0) {
        wgmma_wait<1>();
        release(slot == 0 ? S::kSlots - 1 : slot - 1);
      }
      ring_.go_on(S::kSlots);
    }
    wgmma_wait<0>();
    pin(sum[0]);
    release(ring_.slot == 0 ? S::kSlots - 1 : ring_.slot - 1);
  }

  /** By the warp that feeds: copies all steps, each when a slot is free. */
  static DEVICE void feed(Block& b, const Work<P, S>& work) {
    if (warp() != kWarps || lane() != 0) return;
    Ring& ring = b.ring;
    const uint32_t slots = shared_address(b.shared);
    for (int tile = b.index(); tile < work.tiles; tile += b.count()) {
      const int token_group = work.token_group(tile), row_group = work.row_group(tile);
#pragma unroll 1
      for (int step = 0; step < P::kSteps; ++step) {
        const uint32_t to = slots + ring.slot * S::kSlotBytes;
        uint64_t* const full = ring.full + ring.slot;
        ring.wait_free();
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(full)), "r"(S::kBytes) : "memory");
        copy_box(to, b.args.maps.input + P::kNumber, 2 * step, token_group, 0, full);
        copy_box(to + S::kInputBytes, b.args.maps.weights + P::kNumber, 2 * step, row_group, work.layer, full);
        ring.go_on(S::kSlots);
      }
    }
  }

 private:
  /** This warp has multiplied what is in a slot. */
  DEVICE void release(int slot) const {
    if (lane() == 0) mbarrier_arrive(ring_.empty + slot);
  }

  Ring& ring_;
  uint64_t tokens_, rows_;  // this warp's part of slot 0
};

}  // namespace tiles
