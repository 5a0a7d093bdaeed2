// A product for many tokens: tiles of tokens x rows, each by one block, from the weights as decoding has them.
//
// A step is 64 columns: two cells of every row tile, which lie one behind the other in the stream, and the same columns of the input. The
// cells of a tile are in the order in which decoding warps read them, so steps do not go through the columns from left to right.
#pragma once
#include "cells.cuh"

namespace tiles {

/** A tile of the result: tokens, rows, and how the warps share it. A warp has kMatrices x kGroups results of 16 tokens x 8 rows. */
template <int Tokens, int Rows>
struct Shape {
  static constexpr int kTokens = Tokens, kRows = Rows;
  static constexpr int kTokenWarps = Tokens > Rows ? 4 : 2, kRowWarps = kWarps / kTokenWarps;
  static constexpr int kMatrices = Tokens / kTokenWarps / 16, kGroups = Rows / kRowWarps / 8;
  static_assert(kMatrices >= 1 && kGroups >= 2 && kGroups % 2 == 0, "a warp loads the rows of two groups at once");
  static constexpr int kStepColumns = 64;
  static constexpr int kInputBytes = Tokens * kStepColumns * 2, kSlotBytes = kInputBytes + Rows * kStepColumns * 2;
  static constexpr int kSlots = kSharedBytes / kSlotBytes < kMostSlots ? kSharedBytes / kSlotBytes : kMostSlots;
  static_assert(kSlots >= 2, "a step is copied while another is computed");
};

/** A product of Rows x K, whose tiles begin at byte At of a layer of the stream, or of the stream for the head. */
template <int K, int Rows, int64_t At>
struct Product {
  static constexpr int kColumns = K, kRows = Rows, kStride = padded(K);
  static constexpr int64_t kAt = At;
  static constexpr int kRowTiles = divide_up(Rows, kRowTile);
  static constexpr int kWarpCells = divide_up(padded(K) / 32, ::kWarps), kCells = kWarpCells * ::kWarps;  // of a decoding warp, of a tile
  static constexpr int kTileBytes = kCells * kCellBytes, kSteps = kCells / 2;

  /** The first column of a cell. */
  static DEVICE int column(int cell) { return (cell % ::kWarps * kWarpCells + cell / ::kWarps) * 32; }
};

/** Where a piece of an input's row lies in a slot: rows of 128 bytes, of which eight lie in different banks. */
DEVICE int input_at(int token, int piece) { return token * 128 + ((piece ^ (token & 7)) * 16); }
/** The same of a weight's row in a cell of 8 rows x 64 bytes. */
DEVICE int cell_at(int row, int piece) { return row * 64 + ((piece ^ (row >> 1 & 3)) * 16); }

/** Begins to copy step `step` of a tile into a slot. */
template <class P, class S>
DEVICE void copy_step(uint32_t slot, const char* weights, const Wire* input, int tokens, int first_token, int first_row_tile, int step) {
  constexpr int kInputPieces = S::kTokens * 8, kWeightPieces = S::kRows * 8;
#pragma unroll
  for (int i = int(threadIdx.x); i < kInputPieces; i += kThreads) {
    const int token = i / 8, piece = i % 8, from = min(first_token + token, tokens - 1);
    const int column = P::column(step * 2 + piece / 4) + piece % 4 * 8;
    const bool wanted = column < P::kStride;
    copy_piece(slot + input_at(token, piece), input + size_t(from) * P::kStride + (wanted ? column : 0), wanted);
  }
#pragma unroll
  for (int i = int(threadIdx.x); i < kWeightPieces; i += kThreads) {
    const int tile = i / 64, piece = i % 64, row = piece % 32 / 4;
    const bool wanted = first_row_tile + tile < P::kRowTiles;
    const char* const from = weights + size_t(wanted ? first_row_tile + tile : 0) * P::kTileBytes + step * (2 * kCellBytes) + piece * 16;
    copy_piece(slot + S::kInputBytes + tile * (2 * kCellBytes) + piece / 32 * kCellBytes + cell_at(row, piece % 4), from, wanted);
  }
}

/** Adds the products of a step to a warp's results. */
template <class S>
DEVICE void add_step(float (&sum)[S::kMatrices][S::kGroups][4], uint32_t slot) {
  const int lane = tiles::lane(), token0 = warp() / S::kRowWarps * (S::kMatrices * 16), group0 = warp() % S::kRowWarps * S::kGroups;
#pragma unroll
  for (int k = 0; k < 4; ++k) {  // 16 columns
    uint32_t x[S::kMatrices][4], w[S::kGroups / 2][4];
#pragma unroll
    for (int m = 0; m < S::kMatrices; ++m) load_matrices(x[m], slot + input_at(token0 + m * 16 + lane % 16, k * 2 + lane / 16));
#pragma unroll
    for (int g = 0; g < S::kGroups / 2; ++g) {
      const int group = group0 + g * 2 + lane / 16;
      load_matrices(w[g], slot + S::kInputBytes + (group * 2 + k / 2) * kCellBytes + cell_at(lane % 8, k % 2 * 2 + lane / 8 % 2));
    }
#pragma unroll
    for (int m = 0; m < S::kMatrices; ++m)
#pragma unroll
      for (int g = 0; g < S::kGroups; ++g)
        multiply_tile(sum[m][g], x[m][0], x[m][1], x[m][2], x[m][3], w[g / 2][g % 2 * 2], w[g / 2][g % 2 * 2 + 1]);
  }
}

/** Two neighbouring rows of a product for one token; of an odd number of rows the last has none behind it. */
struct Pair {
  int token, row;  // the first of the two; even
  float y[2];
  bool in_bounds;

  /** The same value of the pair behind this one, which the next lane has. */
  DEVICE float next(float value) const { return __shfl_down_sync(~0u, value, 1); }
  /** The first of two pairs that lie in one lane and the next. */
  DEVICE bool even() const { return row % 4 == 0; }
};

/** The product of tokens [0, tokens) of `input` [tokens][padded(K)]; use(Pair) for the pairs of rows of every token, by whole warps. */
template <class P, class S, class Use>
DEVICE void product(Block& b, const char* layer_stream, const Wire* input, int tokens, Use&& use) {
  const int token_tiles = divide_up(tokens, S::kTokens), row_tiles = divide_up(P::kRows, S::kRows);
  const char* const weights = layer_stream + P::kAt;
  const uint32_t slots = shared_address(b.shared);
  for (int tile = b.index(); tile < token_tiles * row_tiles; tile += b.count()) {
    const int first_token = tile % token_tiles * S::kTokens, first_row = tile / token_tiles * S::kRows;
    const auto copy = [&](int step) {
      if (step < P::kSteps) copy_step<P, S>(slots + step % S::kSlots * S::kSlotBytes, weights, input, tokens, first_token, first_row / kRowTile, step);
      end_copies();
    };
    float sum[S::kMatrices][S::kGroups][4] = {};
    __syncthreads();  // the slots of the tile before have been read
#pragma unroll
    for (int step = 0; step < S::kSlots - 1; ++step) copy(step);
#pragma unroll 1
    for (int step = 0; step < P::kSteps; ++step) {
      wait_copies<S::kSlots - 2>();
      __syncthreads();  // this step is there, and the slot of the one before has been read
      copy(step + S::kSlots - 1);
      add_step<S>(sum, slots + step % S::kSlots * S::kSlotBytes);
    }
    wait_copies<0>();
    const int token0 = first_token + warp() / S::kRowWarps * (S::kMatrices * 16) + lane() / 4;
    const int row0 = first_row + warp() % S::kRowWarps * (S::kGroups * 8) + lane() % 4 * 2;
#pragma unroll
    for (int m = 0; m < S::kMatrices; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int g = 0; g < S::kGroups; ++g) {
          const int row = row0 + g * 8, token = token0 + m * 16 + half * 8;
          use(Pair{token, row, {sum[m][g][half * 2], sum[m][g][half * 2 + 1]}, token < tokens && row < P::kRows});
        }
  }
}

// ---- what becomes of a pair

/** To [tokens][stride], rounded. */
DEVICE void store_pair(Wire* to, int stride, const Pair& o, const float (&value)[2]) {
  if (o.in_bounds) *reinterpret_cast<unsigned*>(to + size_t(o.token) * stride + o.row) = pair_word(value[0], value[1]);
}

/** The same of one value of each pair, since the rows of two outputs take turns. */
DEVICE void store_gated(Wire* to, int stride, const Pair& o, float value) {
  const float next = o.next(value);
  if (o.in_bounds && o.even()) *reinterpret_cast<unsigned*>(to + size_t(o.token) * stride + o.row / 2) = pair_word(value, next);
}

/** Biases of a pair, which are in the order of the packed matrix. */
DEVICE float2 biases_of(const float* bias, const Pair& o) {
  const int row = min(o.row, kQkvRows - 2);
  return make_float2(bias[PairedHeads{}(row)], bias[PairedHeads{}(row + 1)]);
}

/** A pair of the residual stream [tokens][padded(kHidden)]. */
DEVICE float2 load_residual(const float* x, const Pair& o) {
  return o.in_bounds ? *reinterpret_cast<const float2*>(x + size_t(o.token) * padded(kHidden) + o.row) : make_float2(0, 0);
}

DEVICE void store_residual(float* x, const Pair& o, const float (&value)[2]) {
  if (o.in_bounds) *reinterpret_cast<float2*>(x + size_t(o.token) * padded(kHidden) + o.row) = make_float2(value[0], value[1]);
}

/** Logits [tokens][kVocab]. */
DEVICE void store_logits(float* logits, const Pair& o) {
  if (!o.in_bounds) return;
  float* const to = logits + size_t(o.token) * kVocab + o.row;
  to[0] = o.y[0];
  if (o.row + 1 < kVocab) to[1] = o.y[1];
}

}  // namespace tiles
