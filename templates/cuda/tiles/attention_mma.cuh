// Attention with mma.sync: all threads copy positions as they lie in the cache, each warp loads what it multiplies into registers.
#pragma once
#include "attended.cuh"

namespace tiles {

/** Adds a tile of positions that lies at `rows`. */
DEVICE void add_positions(Attended& attended, const Queries& queries, uint32_t rows, const Sight& sight) {
  const int lane = tiles::lane();
  float score[kKeyTile / 8][4] = {};
#pragma unroll
  for (int k = 0; k < kHeadSteps; ++k)
#pragma unroll
    for (int g = 0; g < kKeyTile / 16; ++g) {
      const int row = g * 16 + lane / 16 * 8 + lane % 8;
      uint32_t keys[4];
      load_matrices(keys, rows + row * kRowBytes + swizzled(k * 2 + lane / 8 % 2, row) * 16);
      multiply_tile(score[2 * g], queries.x[k][0], queries.x[k][1], queries.x[k][2], queries.x[k][3], keys[0], keys[1]);
      multiply_tile(score[2 * g + 1], queries.x[k][0], queries.x[k][1], queries.x[k][2], queries.x[k][3], keys[2], keys[3]);
    }
  float rescale[2];
  attended.weigh(score, sight, rescale);
  attended.scale(rescale);
  const Weights weights(score);
#pragma unroll
  for (int g = 0; g < kKeyTile / 16; ++g) {
    const int row = g * 16 + lane % 16;
    const uint32_t(&p)[4] = weights.p[g];
#pragma unroll
    for (int i = 0; i < kHeadPad / 16; ++i) {
      uint32_t values[4];
      load_transposed(values, rows + row * kRowBytes + swizzled(kHeadPad / 8 + i * 2 + lane / 16, row) * 16);
      multiply_tile(attended.out[0][2 * i], p[0], p[1], p[2], p[3], values[0], values[1]);
      multiply_tile(attended.out[0][2 * i + 1], p[0], p[1], p[2], p[3], values[2], values[3]);
    }
  }
}

/** Begins to copy the tile of positions from `first` on, zeros behind the end. */
DEVICE void copy_positions(uint32_t to, const AttendedUnit& of, int first) {
  constexpr int kPieces = kRowBytes / 16;
  for (int i = int(threadIdx.x); first < of.end && i < kKeyTile * kPieces; i += kThreads) {
    const int row = i / kPieces;
    const bool wanted = first + row < of.end;
    copy_piece(to + i * 16, of.cached + size_t(wanted ? first + row : first) * kRowBytes + i % kPieces * 16, wanted);
  }
  end_copies();
}

/** No warp feeds. */
DEVICE void feed_positions(Block&, const AttendedUnit&) {}

/** Attention of a unit, to the input of product P. */
template <class P>
DEVICE void attend_unit(Block& b, const AttendedUnit& of, const Wire* queries, char* att) {
  const int tokens = b.tokens(), first = of.first_token + warp() * 16, last = min(first + 15, tokens - 1);  // of this warp's queries
  const uint32_t buffers = shared_address(b.shared);
  Queries mine;
  mine.load(reinterpret_cast<const unsigned*>(queries) + of.head * (kHeadPad / 2), kQHeads * (kHeadPad / 2), first, tokens);
  Attended attended;
  computing_sync();  // the buffers of the unit before have been read
  copy_positions(buffers, of, of.begin);
  int buffer = 0;
#pragma unroll 1
  for (int at = of.begin; at < of.end; at += kKeyTile, buffer ^= 1) {
    copy_positions(buffers + (buffer ^ 1) * kKeyTileBytes, of, at + kKeyTile);
    wait_copies<1>();
    computing_sync();
    const Sight sight{of.layer, b.position() + first, b.position() + last, at};
    if (first < tokens && !sight.none()) add_positions(attended, mine, buffers + buffer * kKeyTileBytes, sight);
    computing_sync();
  }
  wait_copies<0>();
  if (first < tokens) attended.store<P>(att, of.head, first, tokens);
}

}  // namespace tiles
