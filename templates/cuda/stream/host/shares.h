// How the positions of a batch are dealt to the blocks of a head: so that the block that takes longest takes as little as can be.
//
// A block may read a whole row, which it then publishes; or a part of one, or of several, and then the parts are merged behind it. A merge costs every
// row of the pass, so rows of similar length are whole though the longest is waited for, and one that is much longer than others is shared.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>

#include "model.h"

/** Tiles of cached positions that a row reads in the layer in which it reads most. */
inline int most_tiles(int position) {
  int most = 0;
  for (int layer = 0; layer < kLayers; ++layer) most = std::max(most, (position + kKvTile - 1) / kKvTile - first_seen(layer, position) / kKvTile);
  return most;
}

/** Where the items of each block begin. */
using Cuts = std::array<int, kSplits + 1>;

/** A way to deal the rows of a pass, whose items begin at `items` [rows + 1]. */
class Dealing {
 public:
  Dealing(const int* items, int rows) : items_(items), rows_(rows) {}

  /** Every row has blocks of its own, at most kSplits together: one, or where they are `shared` as many more as there are, the longest part first. */
  Cuts of_rows(bool shared) const {
    std::array<int, kPassTokens> parts{};
    std::fill_n(parts.begin(), rows_, 1);
    for (int left = shared ? kSplits - rows_ : 0; left > 0; --left) {
      int longest = 0;
      for (int row = 1; row < rows_; ++row)
        if (length(row) * parts[longest] > length(longest) * parts[row]) longest = row;
      if (parts[longest] == length(longest)) break;
      ++parts[longest];
    }
    Cuts cuts;
    int share = 0;
    for (int row = 0; row < rows_; ++row)
      for (int part = 0; part < parts[row]; ++part) cuts[share++] = items_[row] + length(row) * part / parts[row];
    std::fill(cuts.begin() + share, cuts.end(), items_[rows_]);
    return cuts;
  }

  /** All blocks have as much: rows stand in a line that is cut. Not inside a row that begins within a quarter of a share. */
  Cuts of_line() const {
    const int all = items_[rows_], shares = std::min(kSplits, all);  // a block between two of a row has something of it
    Cuts cuts;
    for (int share = 0; share <= kSplits; ++share) {
      const int even = static_cast<int>(int64_t{all} * std::min(share, shares) / shares);
      const auto near = [&](int begin) { return std::abs(begin - even); };
      const int begin = *std::min_element(items_, items_ + rows_ + 1, [&](int a, int b) { return near(a) < near(b); });
      cuts[share] = share > 0 && near(begin) * 4 * shares <= all ? begin : even;
    }
    return cuts;
  }

  /** What the block that has most is thought to take, and the merge behind it, in ns: fitted to an H200. */
  int64_t cost(const Cuts& cuts) const {
    constexpr int64_t kTile = 60 + int64_t{kKvTile} * kPositionSize * int64_t{sizeof(Cache)} / 78;
    constexpr int64_t kPart = 1500;  // its queries and its sums
    const int64_t merge = 1300 + 110 * rows_;
    int64_t most = 0;
    bool whole = splits_at(0) == 1;  // else no row is
    for (int share = 0, row = 0; share < kSplits; ++share) {
      const int begin = cuts[share], end = cuts[share + 1];
      while (row < rows_ - 1 && items_[row + 1] <= begin) ++row;
      int parts = 0;
      for (int next = row; next < rows_ && items_[next] < end; ++next, ++parts) whole &= begin <= items_[next] && items_[next + 1] <= end;
      most = std::max(most, parts * kPart + (end - begin) * kTile);
    }
    return most + (whole ? 0 : merge);
  }

  /** The cheapest. */
  Cuts best() const {
    Cuts best = of_line();
    if (rows_ > kSplits) return best;
    for (const bool shared : {true, false}) {
      const Cuts cuts = of_rows(shared);
      if (cost(cuts) <= cost(best)) best = cuts;
    }
    return best;
  }

 private:
  int length(int row) const { return items_[row + 1] - items_[row]; }

  const int* items_;
  int rows_;
};

/** Fills in LaunchArgs.shares and the shares of rows, whose positions are there. The same in all layers, since what a block publishes in one it
 *  empties two layers on. */
inline void deal_rows(LaunchArgs& pass) {
  BatchShares& to = pass.shares;
  const int rows = pass.tokens;
  int items = 0;
  for (int row = 0; row < rows; ++row) {
    to.items[row] = items;
    items += most_tiles(pass.rows[row].position) + 1;
  }
  std::fill(to.items + rows, std::end(to.items), items);
  const Cuts cuts = Dealing(to.items, rows).best();
  std::copy(cuts.begin(), cuts.end(), to.cuts);
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
