// Matrices in blocks as numbers: those of one layer at a time, in front of the products that take them.
#pragma once
#include "operands.cuh"

namespace tiles {

/** The cells of product P, stored as W, to where products read them: from its first in the stream. A warp takes a few cells at a time. */
template <class P, class W>
DEVICE void unpack(const Block& b, const char* packed, char* plain) {
  using Stored = Cell<W, 1>;
  constexpr int kBytes = kBytesOfCell<W>, kAtOnce = 4, kCount = P::kGroups * P::kCells;
  if (b.feeds) return;
  const int lane = tiles::lane(), row = lane >> 2, quad = lane & 3;
  const auto at = [](int first, int i) { return size_t(min(first + i, kCount - 1)); };  // behind the last cell it again
  for (int first = (b.index() * kWarps + warp()) * kAtOnce; first < kCount; first += b.count() * kWarps * kAtOnce) {
    typename Stored::Codes codes[kAtOnce];
    float scales[kAtOnce], least[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const char* const cell = packed + at(first, i) * kBytes;
      codes[i] = __ldcs(reinterpret_cast<const typename Stored::Codes*>(cell) + lane);
      const fp16* const of_rows = reinterpret_cast<const fp16*>(cell + Stored::kScalesAt);
      scales[i] = to_float(of_rows[kHasLeast<W> ? row * 2 : row]);
      least[i] = kHasLeast<W> ? to_float(of_rows[row * 2 + 1]) : 0;
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const uint4 words = Stored::numbers_of(codes[i]);
      const auto scaled = [&](unsigned word) {
        const float2 pair = pair_of(word);
        if constexpr (kHasLeast<W>) return pair_word(fmaf(pair.x, scales[i], least[i]), fmaf(pair.y, scales[i], least[i]));
        return pair_word(pair.x * scales[i], pair.y * scales[i]);
      };
      const uint4 numbers = make_uint4(scaled(words.x), scaled(words.y), scaled(words.z), scaled(words.w));
      *reinterpret_cast<uint4*>(plain + P::kAt + at(first, i) * kCellBytes + cell_piece(row, quad) * 16) = numbers;
    }
  }
}

}  // namespace tiles
