// Shares of a batch: which positions of which rows a block has, and which blocks of a head a row. The host deals them (stream/host/shares.h).
#pragma once
#include "kv_tile.cuh"

/** Tiles [begin, end) of the cached positions that split `split` of `splits` reads in a layer: of those that the token at `position` sees. */
DEVICE Range tiles_of(int layer, int position, int split, int splits) {
  const int first = first_seen(layer, position) / kKvTile, tiles = divide_up(position, kKvTile) - first;
  return {first + dealt(tiles, split, splits), first + dealt(tiles, split + 1, splits)};
}

/** What a block has of a row in a layer: tiles of cached positions, and perhaps the row's own position. */
struct RowShare {
  Range tiles;
  bool own;
};

/** Of a row of which the block has something. In a layer with a window fewer tiles are dealt in the same shares. */
DEVICE RowShare row_share(const LaunchArgs& pass, int layer, int row, int share) {
  const int begin = pass.shares.items[row], wide = pass.shares.items[row + 1] - begin - 1, position = pass.rows[row].position;
  const int first = max(pass.shares.cuts[share] - begin, 0), end = pass.shares.cuts[share + 1] - begin;
  const Range seen = tiles_of(layer, position, 0, 1);
  const int tiles = seen.end - seen.begin;
  const auto tile_at = [&](int item) { return tiles == wide ? item : wide > 0 ? item * tiles / wide : 0; };
  return {{seen.begin + tile_at(first), seen.begin + tile_at(min(end, wide))}, end > wide};
}

/** body(row, its share) for every row of which a block has something. */
template <class Body>
DEVICE void each_row(const LaunchArgs& pass, int layer, int share, Body&& body) {
#pragma unroll 1
  for (int row = pass.shares.rows[share]; row < pass.tokens && pass.shares.items[row] < pass.shares.cuts[share + 1]; ++row)
    body(row, row_share(pass, layer, row, share));
}
