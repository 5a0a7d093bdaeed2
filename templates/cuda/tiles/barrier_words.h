// Words of PromptArgs.barrier, each on a line of its own; kernels and host read this file.
#pragma once

namespace tiles {

constexpr int kArrivals = 0;   // blocks that have arrived since the launch began
constexpr int kLate = 32;      // 0, or 1 + the first block that waited too long; then at which barrier
constexpr int kStopAt = 64;    // 0, or the barrier behind which all leave
constexpr int kFinished = 96;  // 1: no block has left early
constexpr int kBarrierWords = 128;

}  // namespace tiles
