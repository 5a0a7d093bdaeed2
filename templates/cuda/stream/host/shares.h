// How the positions of a batch are dealt to the blocks of a head: all as much as can be, in as few parts as can be.
#pragma once
#include <algorithm>
#include <cstdlib>

#include "model.h"

/** Tiles of cached positions that a row reads in the layer in which it reads most. */
inline int most_tiles(int position) {
  int most = 0;
  for (int layer = 0; layer < kLayers; ++layer) most = std::max(most, (position + kKvTile - 1) / kKvTile - first_seen(layer, position) / kKvTile);
  return most;
}

/** Fills in LaunchArgs.shares and the shares of rows, whose positions are there. The same in all layers, since what a block publishes in one it
 *  empties two layers on. */
inline void deal_rows(LaunchArgs& pass) {
  constexpr int kFewest = 8;  // items of a share, below which a merge is thought to cost more than it saves; not measured
  BatchShares& to = pass.shares;
  const int rows = pass.tokens;
  int items = 0;
  for (int row = 0; row < rows; ++row) {
    to.items[row] = items;
    items += most_tiles(pass.rows[row].position) + 1;
  }
  std::fill(to.items + rows, std::end(to.items), items);
  // As many for each row, where all have a share: rows of one length then have whole ones.
  const int for_each = std::max(1, std::min(kSplits / rows, items / (rows * kFewest)));
  const int shares = std::min(kSplits, rows * for_each);
  for (int share = 0; share <= kSplits; ++share) {
    const int even = share < shares ? static_cast<int>(int64_t{items} * share / shares) : items;
    const auto near = [&](int begin) { return std::abs(begin - even); };
    const int begin = *std::min_element(to.items, to.items + rows + 1, [&](int a, int b) { return near(a) < near(b); });
    // Not inside a row that begins within a quarter of a share.
    to.cuts[share] = share > 0 && near(begin) * 4 * shares <= items ? begin : even;
  }
  to.most = 0;
  for (int share = 0, row = 0; share < kSplits; ++share) {
    while (row < rows - 1 && to.items[row + 1] <= to.cuts[share]) ++row;
    to.rows[share] = to.cuts[share] < to.cuts[share + 1] ? row : rows;
  }
  for (int row = 0, share = 0; row < rows; ++row) {
    while (to.cuts[share + 1] <= to.items[row]) ++share;
    int end = share + 1;
    while (to.cuts[end] < to.items[row + 1]) ++end;
    pass.rows[row].share = share;
    pass.rows[row].shares = end - share;
    to.most = std::max(to.most, end - share);
  }
}
