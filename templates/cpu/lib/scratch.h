// Scratch that library functions use behind the offset they are given; the backend adds kLibScratchFloats to every block's.
#pragma once
#include "lib/types.h"

/** Positions whose scores are computed together: their keys and values stay in the L1 cache for all queries. */
constexpr int kAttendPositions = 32;

/** Floats that attend uses: the queries [n][padded(D)], their scores [n][kAttendPositions], and a chunk of keys where D is no multiple of 32. */
template <int D, int Group, int Tokens> DEVICE constexpr int attend_scratch() {
  return Tokens * Group * (padded(D) + kAttendPositions) + (D % 32 == 0 ? 0 : kAttendPositions * padded(D));
}

/** Floats that sample uses: a key and an id for every row. */
DEVICE constexpr int sample_scratch() { return 2 * kVocab; }

constexpr int kLibScratchFloats = larger(attend_scratch<kHeadDim, kGroup, kPassTokens>(), sample_scratch());

/** True if a block's scratch, the library's share included, holds so many floats. */
DEVICE constexpr bool scratch_fits(int floats) { return floats <= kScratchFloats + kLibScratchFloats; }
