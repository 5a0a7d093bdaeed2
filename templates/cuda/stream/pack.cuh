// Row-major matrices into the weight stream: tile by tile, each a row of cells in the order in which a block's warps read them.
#pragma once
#include "rows.cuh"

/** One product of the layer that begins at `layer_stream`. */
template <class P, class Row>
DEVICE void pack_product(const Matrix* matrix, char* layer_stream, Row&& source_row) {
  constexpr int kPieces = P::kTileBytes / 16, kRowStride = padded(P::kColumns);
  for (int tile = int(blockIdx.x); tile < P::kTiles; tile += int(gridDim.x)) {
    uint4* const to = reinterpret_cast<uint4*>(layer_stream + P::kAt) + size_t(tile) * kPieces;
    for (int i = int(threadIdx.x); i < kPieces; i += int(blockDim.x)) {
      const int piece = i % 32, owner = i / 32 % kWarps, cell = i / 32 / kWarps;
      const int row = tile * kRowTile + piece / 4;
      const int column = (owner * P::kWarpCells + cell) * 32 + cell_piece(piece / 4, piece % 4) % 4 * 8;
      uint4 v = make_uint4(0, 0, 0, 0);
      if (row < P::kRows && column < kRowStride)
        v = *reinterpret_cast<const uint4*>(matrix + size_t(source_row(row)) * kRowStride + column);
      to[i] = v;
    }
  }
}
