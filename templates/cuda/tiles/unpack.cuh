// Matrices in blocks as numbers: those of one layer at a time, in front of the products that take them.
#pragma once
#include "operands.cuh"

namespace tiles {

/** The cells of product P, from a layer of the stream that has it at byte `at`, to where products read them. A warp takes a few cells at a time. */
template <class P, class Stored = Cell<Matrix, 1>>
DEVICE void unpack(const Block& b, const char* packed, char* plain) {
  constexpr int kBytes = kBytesOfCell<Matrix>, kAtOnce = 4, kCount = P::kGroups * P::kCells;
  static_assert(kCount % kAtOnce == 0, "a group is a row of cells of eight warps");
  if (b.feeds) return;
  const int lane = tiles::lane(), row = lane >> 2, quad = lane & 3;
  for (int first = (b.index() * kWarps + warp()) * kAtOnce; first < kCount; first += b.count() * kWarps * kAtOnce) {
    typename Stored::Codes codes[kAtOnce];
    float scales[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const char* const cell = packed + size_t(first + i) * kBytes;
      codes[i] = __ldcs(reinterpret_cast<const typename Stored::Codes*>(cell) + lane);
      scales[i] = to_float(reinterpret_cast<const fp16*>(cell + Stored::kScalesAt)[row]);
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const uint4 words = Stored::numbers_of(codes[i]);
      const auto scaled = [&](unsigned word) {
        const float2 pair = pair_of(word);
        return pair_word(pair.x * scales[i], pair.y * scales[i]);
      };
      const uint4 numbers = make_uint4(scaled(words.x), scaled(words.y), scaled(words.z), scaled(words.w));
      *reinterpret_cast<uint4*>(plain + P::kAt + size_t(first + i) * kCellBytes + cell_piece(row, quad) * 16) = numbers;
    }
  }
}

}  // namespace tiles
