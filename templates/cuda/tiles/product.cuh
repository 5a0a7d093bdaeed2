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

/** The tiles of a product. */
template <class P, int K>
using TileOf = Shape<kKernels[K].tokens, kKernels[K].rows[P::kNumber]>;

/** Parts that the squares of a token are summed in by the product that makes them: one for each tile of rows and warp of it. */
template <class P, int K>
constexpr int kParts = divide_up(P::kRows, TileOf<P, K>::kRows) * TileOf<P, K>::kRowWarps;

/** An input that is complete. */
struct Input {
  const char* groups;  // of 8 tokens
  DEVICE float factor(int) const { return 1.0f; }
};

/** An input that lacks the factor of its norm: the squares of its tokens, in so many parts. */
template <int Parts>
struct NormedInput {
  static_assert(Parts <= kSquareParts, "see codegen/schemes/tiles/sizes.ts");
  const char* groups;
  const float* squares;  // [tokens][kSquareParts]

  /** By the four lanes that have a token. */
  DEVICE float factor(int token) const {
    float square = 0;
#pragma unroll 4
    for (int part = lane() % 4; part < Parts; part += 4) square += squares[size_t(token) * kSquareParts + part];
    return rsqrtf(quad_sum(square) * (1.0f / kHidden) + kNormEps);
  }
};

/** Where nothing is left to do for a token of a tile. */
struct NoEnd {
  DEVICE void operator()(int, int) const {}
};
/** Where nobody has to see all sums of a tile before they are used one by one. */
struct NoStart {
  template <class S>
  DEVICE void start(Block&, const float (&)[S::kMatrices][S::kGroups][4], const float (&)[S::kMatrices][2]) const {}
};

/**
 * The product of tokens [0, tokens) of an input: use(Pair) for the pairs of rows of every token, by whole warps, and end(token, part) behind
 * those that a warp has of it. `of_tile` sees all sums of a tile first.
 */
template <class P, int K, class From, class Use, class End = NoEnd, class Tile = NoStart>
DEVICE void product(Block& b, const char* layer_stream, int layer, const From& input, int tokens, Use&& use, End&& end = End{}, Tile&& of_tile = Tile{}) {
  using S = TileOf<P, K>;
  const int token_tiles = divide_up(tokens, S::kTokens), row_tiles = divide_up(P::kRows, S::kRows);
  for (int tile = b.index(); tile < token_tiles * row_tiles; tile += b.count()) {
    const int first_token = tile % token_tiles * S::kTokens, row_tile = tile / token_tiles, first_row = row_tile * S::kRows;
    const int token_group = first_token / 8, row_group = first_row / kRowTile;
    const TileOperands from{input.groups + size_t(token_group) * P::kGroupBytes, layer_stream + P::kAt + size_t(row_group) * P::kGroupBytes,
                            P::kGroups - row_group, layer, token_group, row_group};
    const int token0 = first_token + S::first_token(warp()) + lane() / 4;
    const int row0 = first_row + S::first_group(warp()) * 8 + lane() % 4 * 2;
    float sum[S::kMatrices][S::kGroups][4] = {}, factor[S::kMatrices][2];
    sum_tile<P, S>(b, sum, from, [&] {
#pragma unroll
      for (int m = 0; m < S::kMatrices; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) factor[m][half] = input.factor(min(token0 + m * 16 + half * 8, tokens - 1));
    });
    mark_inside(kPhaseCompute);
    of_tile.template start<S>(b, sum, factor);
#pragma unroll
    for (int m = 0; m < S::kMatrices; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int token = token0 + m * 16 + half * 8;
#pragma unroll
        for (int g = 0; g < S::kGroups; ++g) {
          const int row = row0 + g * 8;
          const float* const y = sum[m][g] + half * 2;
          use(Pair{token, row, {y[0] * factor[m][half], y[1] * factor[m][half]}, token < tokens && row < P::kRows});
        }
        end(token, row_tile * S::kRowWarps + S::row_warp(warp()));
      }
    mark_inside(kPhasePublish);
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

/** What is normed ahead, for the product P: the residual stream times the weights of the norm, and its squares. */
template <class P>
struct Ahead {
  char* to;
  const Vector* weights;  // [kHidden]; null: nobody reads it
  float* squares;         // [tokens][kSquareParts]
  int tokens;
  float square = 0;

  DEVICE void take(const Pair& o, const float (&x)[2]) {
    if (!o.in_bounds || !weights) return;
    const bool both = o.row + 1 < kHidden;
    square = fmaf(x[0], x[0], square);
    if (both) square = fmaf(x[1], x[1], square);
    store_input<P>(to, o.token, o.row, x[0] * to_float(weights[o.row]), both ? x[1] * to_float(weights[o.row + 1]) : 0.0f);
  }

  /** All that this warp has of a token has been taken. */
  DEVICE void end(int token, int part) {
    square = quad_sum(square);
    if (weights && lane() % 4 == 0 && token < tokens) squares[size_t(token) * kSquareParts + part] = square;
    square = 0;
  }
};

/** Logits [tokens][kVocab]. */
DEVICE void store_logits(float* logits, const Pair& o) {
  if (!o.in_bounds) return;
  float* const to = logits + size_t(o.token) * kVocab + o.row;
  to[0] = o.y[0];
  if (o.row + 1 < kVocab) to[1] = o.y[1];
}

}  // namespace tiles
