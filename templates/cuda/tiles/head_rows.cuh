// Norm and rotation of queries and keys, and the cache, where their product is made: a tile has whole heads.
#pragma once
#include "heads.cuh"
#include "product.cuh"

namespace tiles {

/** The squares of the heads of a tile, summed over the warps that share one, where the steps of the product lay. */
template <class S>
struct HeadSquares {
  static_assert(S::kRows % kHeadDim == 0, "see codegen/schemes/tiles/rules.ts");
  static constexpr int kColumns = S::kGroups * 8;  // of a warp
  static constexpr int kHeads = kColumns > kHeadDim ? kColumns / kHeadDim : 1, kShare = kColumns > kHeadDim ? 1 : kHeadDim / kColumns;
  static constexpr int kTileHeads = S::kRows / kHeadDim;

  static DEVICE float* at(Block& b, int token, int head, int share) {
    return reinterpret_cast<float*>(b.shared) + (token * kTileHeads + head) * kShare + share;
  }
};

/** Queries, keys and values of a tile, biased, row by row to where attention reads them. */
template <bool Bias>
struct HeadRows {
  Wire* queries;  // [tokens][kQHeads][kHeadPad]
  Cache* cache;   // of the layer
  HeadNorms norms;
  const float* bias;  // in the order of the packed matrix
  int layer;

  /** Where the norm needs them: the squares of all heads of a tile. */
  template <class S>
  DEVICE void start(Block& b, const float (&sum)[S::kMatrices][S::kGroups][4], const float (&factor)[S::kMatrices][2]) const {
    static_assert(!Bias || !kQkNorm, "a bias would have to be added first");
    if constexpr (kQkNorm) {
      using Squares = HeadSquares<S>;
      constexpr int kGroupsOfHead = S::kGroups / Squares::kHeads;
      const int token0 = S::first_token(warp()) + lane() / 4, group0 = S::first_group(warp());
      __syncthreads();  // the last steps have been read
#pragma unroll
      for (int m = 0; m < S::kMatrices; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half)
#pragma unroll
          for (int h = 0; h < Squares::kHeads; ++h) {
            float square = 0;
#pragma unroll
            for (int g = h * kGroupsOfHead; g < (h + 1) * kGroupsOfHead; ++g) {
              const float x = sum[m][g][half * 2] * factor[m][half], y = sum[m][g][half * 2 + 1] * factor[m][half];
              square = fmaf(x, x, fmaf(y, y, square));
            }
            square = quad_sum(square);
            const int group = group0 + h * kGroupsOfHead;
            if (lane() % 4 == 0)
              *Squares::at(b, token0 + m * 16 + half * 8, group * 8 / kHeadDim, group * 8 % kHeadDim / Squares::kColumns) = square;
          }
      __syncthreads();
    }
  }

  /** The factor of the norm of a row's head. */
  template <class S>
  DEVICE float factor(Block& b, int token, int row) const {
    using Squares = HeadSquares<S>;
    float square = 0;
#pragma unroll
    for (int i = 0; i < Squares::kShare; ++i) square += *Squares::at(b, token, row / kHeadDim, i);
    return rsqrtf(square * (1.0f / kHeadDim) + kNormEps);
  }

  /** A pair of rows: of queries and keys what is rotated together, of values two neighbours. */
  template <class S>
  DEVICE void take(Block& b, const Pair& o) const {
    if (!o.in_bounds) return;
    const bool value = o.row >= kQDim + kKvDim, key = o.row >= kQDim && !value;
    const int pair = o.row % kHeadDim / 2, position = b.position() + o.token;
    float2 x = make_float2(o.y[0], o.y[1]);
    if constexpr (Bias) {
      const float2 more = biases_of(bias, o);
      x.x += more.x, x.y += more.y;
    }
    if (kQkNorm && !value) {
      const Vector* const weights = key ? norms.key : norms.query;
      const float by = factor<S>(b, o.token % S::kTokens, o.row % S::kRows);
      x.x *= by * to_float(weights[pair]), x.y *= by * to_float(weights[pair + kPairs]);
    }
    if (!value) x = rotated(x, __ldg(rotations_of(b, layer, position) + pair));
    const unsigned word = pair_word(x.x, x.y);
    if (o.row < kQDim) {
      reinterpret_cast<unsigned*>(queries)[(size_t(o.token) * kQHeads + o.row / kHeadDim) * (kHeadPad / 2) + pair] = word;
    } else {
      const int head = (o.row - kQDim) % kKvDim / kHeadDim;
      unsigned* const cached = reinterpret_cast<unsigned*>(cache) + (size_t(head) * b.args.pass.context + position) * kHeadPad;
      cached[cache_word(value ? kHeadPad / 8 : 0, pair, position)] = word;
    }
  }
};

}  // namespace tiles
