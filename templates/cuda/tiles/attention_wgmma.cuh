// Attention with wgmma: the warps that feed copy positions as cells, and four warps together multiply 64 queries where these lie. The scores of
// a tile are made while the values of the tile before are added.
#pragma once
#include "attended.cuh"
#include "wgmma.cuh"

namespace tiles {

constexpr int kFeedingThreads = kLaunchThreads - kThreads;
constexpr int kPositionsBytes = 8 * kRowBytes;  // cells of the keys of eight positions, and behind them those of their values
constexpr int kValuesAt = kHeadPad / 32 * kCellBytes;

/** Barriers of the tiles of positions, which all threads that feed fill. */
DEVICE void start_positions(Block& b) {
  __shared__ uint64_t full[kKeyTiles], empty[kKeyTiles];
  b.positions.start(full, empty, kKeyTiles, kFeedingThreads);
}

/** What a thread copies of every tile: one piece of one segment of 64 bytes, of every kRows-th position. */
struct Share {
  static constexpr int kSegments = kRowBytes / 64;
  static constexpr int kRows = kFeedingThreads * 16 / kRowBytes;  // that all threads copy together
  static_assert(kRows % 2 == 0 && (kRows % 8 == 0 || 8 % kRows == 0) && kKeyTile % kRows == 0, "see tilesOddHead in codegen/schemes/tiles/rules.ts");
  int row, from, to;  // its first position of a tile; bytes from the tile's first

  DEVICE explicit Share(int thread) {
    // Neighbours have a segment of two positions, which differ in the order of segments: they write to different banks.
    const int piece = thread % 4, segment = thread / 8 % kSegments;
    row = thread / 8 / kSegments * 2 + thread / 4 % 2;
    from = row * kRowBytes + segment * 64 + piece * 16;
    to = place(row) + (segment ^ (row & 1)) * kCellBytes + piece * 16;
  }
  static DEVICE constexpr int place(int row) { return row / 8 * kPositionsBytes + row % 8 * 64; }
};

/** By the threads that feed: copies the positions of a unit, tile by tile, zeros behind the end. */
DEVICE void feed_positions(Block& b, const AttendedUnit& of) {
  constexpr int kCopies = kKeyTile / Share::kRows;
  const Share mine(int(threadIdx.x) - kThreads);
  Ring& ring = b.positions;
#pragma unroll 1
  for (int at = of.begin; at < of.end; at += kKeyTile) {
    const char* const from = of.cached + size_t(at) * kRowBytes + mine.from;
    const uint32_t to = shared_address(b.shared) + ring.slot * kKeyTileBytes + mine.to;
    ring.wait_free();
    if (at + kKeyTile <= of.end) {
#pragma unroll
      for (int i = 0; i < kCopies; ++i) copy_piece(to + Share::place(i * Share::kRows), from + i * Share::kRows * kRowBytes, true);
    } else {
#pragma unroll 1
      for (int i = 0; i < kCopies; ++i) {
        const bool wanted = at + mine.row + i * Share::kRows < of.end;
        copy_piece(to + Share::place(i * Share::kRows), from + (wanted ? i * Share::kRows * kRowBytes : -mine.from), wanted);
      }
    }
    mbarrier_arrive_copied(ring.full + ring.slot);
    ring.go_on(kKeyTiles);
  }
}

/** Begins the scores of the positions in a slot. */
DEVICE void begin_scores(float (&score)[kKeyTile / 8][4], const Queries& queries, uint32_t slot) {
#pragma unroll
  for (int k = 0; k < kHeadSteps; ++k) {
    const uint64_t keys = matrix_at<kPositionsBytes>(slot + k / 2 * kCellBytes + k % 2 * 32);
    if (k == 0)
      wgmma_from<kKeyTile, false, true>(score, queries.x[k], keys);
    else
      wgmma_from<kKeyTile, false, false>(score, queries.x[k], keys);
  }
  wgmma_commit();
}

/** Begins to add the values of the positions in a slot. */
DEVICE void begin_values(Attended& attended, const Weights& weights, uint32_t slot) {
#pragma unroll
  for (int part = 0; part < kHeadPad / kValueColumns; ++part)
#pragma unroll
    for (int g = 0; g < kKeyTile / 16; ++g) {
      const uint64_t values = matrix_at<kPositionsBytes>(slot + kValuesAt + g * 2 * kPositionsBytes + part * (kValueColumns / 32 * kCellBytes));
      wgmma_from<kValueColumns, true, false>(attended.out[part], weights.p[g], values);
    }
  wgmma_commit();
}

/** Returns when all products are done. */
DEVICE void wait_products(Attended& attended) {
  wgmma_wait<0>();
#pragma unroll
  for (auto& part : attended.out) pin(part);
}

/** Attention of a unit, to the input of product P. */
template <class P>
DEVICE void attend_unit(Block& b, const AttendedUnit& of, const Wire* queries, char* att) {
  const int tokens = b.tokens(), position = b.position();
  const int first = of.first_token + warp() * 16, last = min(first + 15, tokens - 1);  // of this warp's queries
  const int group_first = of.first_token + warp() / 4 * 64;                             // of those that are multiplied together
  // Positions behind the last query of the group are left out.
  const int seen = group_first < tokens ? divide_up(position + min(group_first + 64, tokens) - of.begin, kKeyTile) : 0;
  const int all = of.tiles();
  Ring& ring = b.positions;
  const auto slot_at = [&](int slot) { return shared_address(b.shared) + slot * kKeyTileBytes; };
  const auto release = [&](int slot) {
    if (lane() == 0) mbarrier_arrive(ring.empty + slot);
  };
  int tile = 0;
  if (seen > 0) {
    Queries mine;
    mine.load(reinterpret_cast<const unsigned*>(queries) + of.head * (kHeadPad / 2), kQHeads * (kHeadPad / 2), first, tokens);
    Attended attended;
    Sight sight{of.layer, position + first, position + last, of.begin};
    float score[kKeyTile / 8][4] = {}, rescale[2];
    ring.wait_filled();
    fence_shared();
    wgmma_fence();
    begin_scores(score, mine, slot_at(ring.slot));
    wgmma_wait<0>();
    pin(score);
    attended.weigh(score, sight, rescale);
    Weights weights(score);
    int before = ring.slot;
    ring.go_on(kKeyTiles);
#pragma unroll 1
    for (tile = 1; tile < seen; ++tile) {
      sight.at += kKeyTile;
      ring.wait_filled();
      fence_shared();
      wgmma_fence();
      begin_scores(score, mine, slot_at(ring.slot));
      begin_values(attended, weights, slot_at(before));
      wgmma_wait<1>();
      pin(score);
      attended.weigh(score, sight, rescale);
      wait_products(attended);
      release(before);
      attended.scale(rescale);
      weights = Weights(score);
      before = ring.slot;
      ring.go_on(kKeyTiles);
    }
    wgmma_fence();
    begin_values(attended, weights, slot_at(before));
    wait_products(attended);
    release(before);
    if (first < tokens) attended.store<P>(att, of.head, first, tokens);
  }
#pragma unroll 1
  for (; tile < all; ++tile) {
    ring.wait_filled();
    release(ring.slot);
    ring.go_on(kKeyTiles);
  }
}

}  // namespace tiles
