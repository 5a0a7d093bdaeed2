// A tile's steps with mma.sync, which every GPU since sm_80 has: all threads copy, and each warp loads what it multiplies into registers.
#pragma once
#include "operands.cuh"

namespace tiles {

/** A tile of Tokens x Rows: a warp has kMatrices x kGroups results of 16 tokens x 8 rows. */
template <int Tokens, int Rows, int SlotBytes>
struct Shape : Slots<Tokens, Rows, SlotBytes> {
  static constexpr int kTokenWarps = Tokens > Rows ? 4 : 2, kRowWarps = kWarps / kTokenWarps;
  static constexpr int kMatrices = Tokens / kTokenWarps / 16, kGroups = Rows / kRowWarps / 8;
  static_assert(kMatrices >= 1 && kGroups >= 2 && kGroups % 2 == 0, "a warp loads the rows of two groups at once");

  /** The first token of a warp, which part of the rows it has, and the first group of these. */
  static DEVICE int first_token(int warp) { return warp / kRowWarps * (kMatrices * 16); }
  static DEVICE int row_warp(int warp) { return warp % kRowWarps; }
  static DEVICE int first_group(int warp) { return warp % kRowWarps * kGroups; }
};

/** Adds the products of a step to a warp's results. */
template <class S>
DEVICE void add_step(float (&sum)[S::kMatrices][S::kGroups][4], uint32_t slot) {
  const int lane = tiles::lane(), token0 = S::first_token(warp()), group0 = S::first_group(warp());
#pragma unroll
  for (int k = 0; k < 4; ++k) {  // 16 columns
    const uint32_t cell = slot + k / 2 * kCellBytes;
    uint32_t x[S::kMatrices][4], w[S::kGroups / 2][4];
#pragma unroll
    for (int m = 0; m < S::kMatrices; ++m) {
      const int group = (token0 + m * 16) / 8 + lane / 8 % 2;
      load_matrices(x[m], cell + group * kStepBytes + cell_piece(lane % 8, k % 2 * 2 + lane / 16) * 16);
    }
#pragma unroll
    for (int g = 0; g < S::kGroups / 2; ++g) {
      const int group = group0 + g * 2 + lane / 16;
      load_matrices(w[g], cell + S::kInputBytes + group * kStepBytes + cell_piece(lane % 8, k % 2 * 2 + lane / 8 % 2) * 16);
    }
#pragma unroll
    for (int m = 0; m < S::kMatrices; ++m)
#pragma unroll
      for (int g = 0; g < S::kGroups; ++g)
        multiply_tile(sum[m][g], x[m][0], x[m][1], x[m][2], x[m][3], w[g / 2][g % 2 * 2], w[g / 2][g % 2 * 2 + 1]);
  }
}

/** The steps of the tiles of a product. */
template <class P, class S>
class Steps {
 public:
  DEVICE Steps(Block& b, const Work<P, S>& work) : slots_(shared_address(b.shared)), work_(work) {}

  /** The sums of a tile. */
  DEVICE void sum(int tile, float (&sum)[S::kMatrices][S::kGroups][4]) const {
    computing_sync();  // the slots of the tile before have been read
#pragma unroll 1
    for (int step = 0; step < S::kSlots - 1; ++step) copy(tile, step);
#pragma unroll 1
    for (int step = 0; step < P::kSteps; ++step) {
      wait_copies<S::kSlots - 2>();
      computing_sync();  // this step is there, and the slot of the one before has been read
      if (step == 0) mark_inside(kPhaseWeights);
      copy(tile, step + S::kSlots - 1);
      add_step<S>(sum, slot(step));
    }
    wait_copies<0>();
  }

  /** No warp feeds: all threads copy. */
  static DEVICE void feed(Block&, const Work<P, S>&) {}

 private:
  DEVICE uint32_t slot(int step) const { return slots_ + step % S::kSlots * S::kSlotBytes; }

  /** Begins to copy a step, if there is one. */
  DEVICE void copy(int tile, int step) const {
    constexpr int kPieces = kStepBytes / 16;
    const int first_row = work_.row_group(tile);
    const char* const input = work_.input + size_t(work_.token_group(tile)) * P::kGroupBytes;
    for (int i = int(threadIdx.x); step < P::kSteps && i < S::kBytes / 16; i += kThreads) {
      const int group = i / kPieces, row_group = first_row + group - S::kTokens / 8;
      const bool of_input = group < S::kTokens / 8, wanted = of_input || row_group < P::kGroups;
      const char* const operand = of_input ? input + size_t(group) * P::kGroupBytes : work_.weights + size_t(wanted ? row_group : 0) * P::kGroupBytes;
      copy_piece(slot(step) + i * 16, operand + step * kStepBytes + i % kPieces * 16, wanted);
    }
    end_copies();
  }

  uint32_t slots_;
  const Work<P, S>& work_;
};

}  // namespace tiles
