// A product for many tokens: tiles of tokens x rows, each by one block, and what becomes of the results.
#pragma once
#include "steps.cuh"

namespace tiles {

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

/** The product of tokens [0, tokens) of `input`; use(Pair) for the pairs of rows of every token, by whole warps. */
template <class P, int K, class Use>
DEVICE void product(Block& b, const char* layer_stream, int layer, const char* input, int tokens, Use&& use) {
  using S = Shape<kKernels[K].tokens, kKernels[K].rows[P::kNumber]>;
  const int token_tiles = divide_up(tokens, S::kTokens), row_tiles = divide_up(P::kRows, S::kRows);
  for (int tile = b.index(); tile < token_tiles * row_tiles; tile += b.count()) {
    const int first_token = tile % token_tiles * S::kTokens, first_row = tile / token_tiles * S::kRows;
    const int token_group = first_token / 8, row_group = first_row / kRowTile;
    const TileOperands from{input + size_t(token_group) * P::kGroupBytes, layer_stream + P::kAt + size_t(row_group) * P::kGroupBytes,
                        P::kGroups - row_group, layer, token_group, row_group};
    float sum[S::kMatrices][S::kGroups][4] = {};
    sum_tile<P, S>(b, sum, from);
    const int token0 = first_token + S::first_token(warp()) + lane() / 4;
    const int row0 = first_row + S::first_group(warp()) * 8 + lane() % 4 * 2;
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

/** To the input of another product; one value of each pair, since the rows of two outputs take turns. */
template <class P>
DEVICE void store_gated(char* to, const Pair& o, float value) {
  const float next = o.next(value);
  if (o.in_bounds && o.even()) store_input<P>(to, o.token, o.row / 2, value, next);
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
