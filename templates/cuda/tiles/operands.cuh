// The two operands of a product, weights and activations alike: groups of 8 rows or tokens, each a row of cells of 32 columns, as decoding has
// its weights. The cells of a group are in the order in which decoding warps read them, so that steps do not go through the columns in order.
#pragma once
#include "cells.cuh"

namespace tiles {

/** Columns of a step: two cells of each group, which lie one behind the other. */
constexpr int kStepBytes = 2 * kCellBytes;

/** A product of Rows x K, number N of all, whose tiles begin at byte At of a layer of the stream, or of the stream for the head. */
template <int N, int K, int Rows, int64_t At>
struct Product {
  static constexpr int kNumber = N, kRows = Rows, kGroups = divide_up(Rows, kRowTile);
  static constexpr int64_t kAt = At;
  static constexpr int kCells = WarpColumns<K>::kCells;  // of a group
  static constexpr int kGroupBytes = kCells * kCellBytes, kSteps = kCells / 2;

  /** Where its input has a chunk of eight columns of a token. */
  static DEVICE size_t chunk_at(int token, unsigned chunk) {
    const int cell = WarpColumns<K>::place(int(chunk / 4));
    return size_t(token / 8) * kGroupBytes + cell * kCellBytes + cell_piece(token % 8, int(chunk % 4)) * 16;
  }
  /** Where it has a column of a token. */
  static DEVICE size_t input_at(int token, int column) { return chunk_at(token, unsigned(column) / 8) + column % 8 * 2; }
};

/** Two neighbouring columns of a token, the first even, to the input of a product. */
template <class P>
DEVICE void store_input(char* input, int token, int column, float first, float second) {
  *reinterpret_cast<unsigned*>(input + P::input_at(token, column)) = pair_word(first, second);
}

/** A tile of Tokens x Rows: how its steps lie in slots of shared memory, the input of each in front of its weights. */
template <int Tokens, int Rows, int SlotBytes>
struct Slots {
  static constexpr int kTokens = Tokens, kRows = Rows, kSlotBytes = SlotBytes;
  static constexpr int kInputBytes = Tokens / 8 * kStepBytes, kBytes = kInputBytes + Rows / 8 * kStepBytes;
  static constexpr int kFitting = kSlotsBytes / kSlotBytes, kSlots = kFitting < kMostSlots ? kFitting : kMostSlots;
  static_assert(kBytes <= kSlotBytes && kSlots >= 2, "a step is copied while another is computed");
};

/** The tiles of a product: those of the same rows one behind the other. */
template <class P, class S>
struct Work {
  const char *input, *weights;  // of the first token and row
  int layer, token_tiles, tiles;

  DEVICE Work(const char* input, const char* weights, int layer, int tokens)
      : input(input), weights(weights), layer(layer), token_tiles(divide_up(tokens, S::kTokens)), tiles(token_tiles * divide_up(P::kRows, S::kRows)) {}
  DEVICE int token_tile(int tile) const { return tile % token_tiles; }
  DEVICE int row_tile(int tile) const { return tile / token_tiles; }
  /** The first group of 8 of a tile. */
  DEVICE int token_group(int tile) const { return token_tile(tile) * (S::kTokens / 8); }
  DEVICE int row_group(int tile) const { return row_tile(tile) * (S::kRows / 8); }
};

}  // namespace tiles
