// Row-major matrices into the weight stream: for each block its tiles, each a row of cells in the order in which its warps read them.
#pragma once
#include "rows.cuh"

/** One product of one layer; `stream` is the first byte of each block's tiles, block_stride and tile_base tell where a block begins. */
template <class P, class Row, class Base>
DEVICE void pack_product(const Matrix* matrix, char* stream, Row&& source_row, Base&& block_base) {
  constexpr int kPieces = P::kTileBytes / 16, kRowStride = padded(P::kColumns);
  for (int block = int(blockIdx.x); block < kBlocks; block += int(gridDim.x)) {
    uint4* const to = reinterpret_cast<uint4*>(stream + block_base(block));
    const int tiles = P::tiles(block), first = P::first(block);
    for (int i = int(threadIdx.x); i < tiles * kPieces; i += int(blockDim.x)) {
      const int piece = i % 32, owner = i / 32 % kWarps, cell = i / 32 / kWarps;
      const int row = (first + cell / P::kWarpCells) * 8 + piece / 4;
      const int column = (owner * P::kWarpCells + cell % P::kWarpCells) * 32 + piece % 4 * 8;
      uint4 v = make_uint4(0, 0, 0, 0);
      if (row < P::kRows && column < kRowStride)
        v = *reinterpret_cast<const uint4*>(matrix + size_t(source_row(row)) * kRowStride + column);
      to[i] = v;
    }
  }
}
