// Row-major matrices into the weight stream: tile by tile, each a row of cells in the order in which a block's warps read them.
#pragma once
#include "rows.cuh"

/** A tile of plain numbers; row_of(row) is a row of the matrix. By the whole block. */
template <class P, class RowOf>
DEVICE void pack_numbers(char* to, int tile, RowOf&& row_of) {
  for (int i = int(threadIdx.x); i < P::kTileBytes / 16; i += int(blockDim.x)) {
    const int piece = i % 32, owner = i / 32 % kWarps, cell = i / 32 / kWarps;
    const int row = tile * kRowTile + piece / 4;
    const int column = (P::Columns::first(owner) + cell) * 32 + cell_piece(piece / 4, piece % 4) % 4 * 8;
    uint4 v = make_uint4(0, 0, 0, 0);
    if (row < P::kRows && column < padded(P::kColumns)) v = *reinterpret_cast<const uint4*>(row_of(row) + column);
    reinterpret_cast<uint4*>(to)[i] = v;
  }
}

/** A tile of blocks: each is a row of a cell. */
template <class P, class RowOf>
DEVICE void pack_blocks(char* to, int tile, RowOf&& row_of) {
  using W = typename P::Stored;
  for (int i = int(threadIdx.x); i < P::kCells * kRowTile; i += int(blockDim.x)) {
    const int row = tile * kRowTile + i % kRowTile, owner = i / kRowTile % kWarps, cell = i / kRowTile / kWarps;
    const int block = P::Columns::first(owner) + cell;
    W codes = {};  // with a scale of 0, whatever the codes
    if (row < P::kRows && block < padded(P::kColumns) / kNumbers<W>) codes = row_of(row)[block];
    pack_row(codes, i % kRowTile, to + i / kRowTile * kBytesOfCell<W>);
  }
}

/** Tiles [first, end) of a product of the layer that begins at `layer_stream`. */
template <class P, class Row>
DEVICE void pack_product(const char* matrix, char* layer_stream, Row&& source_row, int first = 0, int end = P::kTiles) {
  using W = typename P::Stored;
  const auto row_of = [&](int row) { return stored_row(reinterpret_cast<const W*>(matrix), source_row(row), P::kColumns); };
  for (int tile = first + int(blockIdx.x); tile < end; tile += int(gridDim.x)) {
    char* const to = layer_stream + P::kAt + size_t(tile) * P::kTileBytes;
    if constexpr (kNumbers<W> == 1)
      pack_numbers<P>(to, tile, row_of);
    else
      pack_blocks<P>(to, tile, row_of);
  }
}
