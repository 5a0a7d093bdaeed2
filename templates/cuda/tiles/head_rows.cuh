// Norm and rotation of queries and keys, and the cache, where their product is made: a tile has whole heads.
#pragma once
#include "heads.cuh"
#include "product.cuh"

namespace tiles {

/** The squares of the heads of a tile, summed over the warps that share one. */
template <class S>
struct HeadSquares {
  static_assert(S::kRows % kHeadDim == 0 && kHeadDim % 8 == 0, "see codegen/schemes/tiles/rules.ts");
  static constexpr int kColumns = S::kGroups * 8;  // of a warp
  static constexpr int kHeads = kColumns > kHeadDim ? kColumns / kHeadDim : 1, kShare = kColumns > kHeadDim ? 1 : kHeadDim / kColumns;
  static constexpr int kTileHeads = S::kRows / kHeadDim;

  static DEVICE float* at(const Block& b, int token, int head, int share) {
    return reinterpret_cast<float*>(b.shared + kSlotsBytes + kResultsBytes) + (token * kTileHeads + head) * kShare + share;
  }
};

/** Queries, keys and values of a tile, biased, row by row to where attention reads them. */
template <bool Bias, class S>
struct HeadRows {
  const Block& b;
  Wire* queries;  // [tokens][kQHeads][kHeadPad]
  Wire* positions;  // of the layer
  HeadNorms norms;
  const float* bias;  // in the order of the packed matrix
  int layer;

  static DEVICE bool is_value(int row) { return row >= kQDim + kKvDim; }

  /** Weights of the norm, or biases. */
  DEVICE Values<8> read_rows(int row) const {
    if constexpr (Bias) return biases_of(bias, row);
    if (!kQkNorm || is_value(row)) return {};
    const Vector* const weights = (row < kQDim ? norms.query : norms.key) + row % kHeadDim / 2;
    return each<8>([&](int i) { return to_float(weights[i / 2 + i % 2 * kPairs]); });
  }

  /** The rotations of pairs. */
  DEVICE Values<8> read(const Place& o) const {
    if (!o.in_bounds || is_value(o.row)) return {};
    const float4* const from = reinterpret_cast<const float4*>(rotations_of(b, layer, b.position() + o.token) + o.row % kHeadDim / 2);
    const float4 one = __ldg(from), two = __ldg(from + 1);
    return {one.x, one.y, one.z, one.w, two.x, two.y, two.z, two.w};
  }

  /** Where the norm needs them: the squares of all heads of a tile. */
  template <class>
  DEVICE void start(Block& b, const float (&sum)[S::kMatrices][S::kGroups][4], const float (&factor)[S::kMatrices][2]) const {
    static_assert(!Bias || !kQkNorm, "a bias would have to be added first");
    if constexpr (kQkNorm) {
      using Squares = HeadSquares<S>;
      constexpr int kGroupsOfHead = S::kGroups / Squares::kHeads;
      const int token0 = S::first_token(warp()) + lane() / 4, group0 = S::first_group(warp());
      computing_sync();  // those of the tile before have been read
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
      computing_sync();
    }
  }

  /** The factor of the norm of a row's head. */
  DEVICE float factor(int token, int row) const {
    using Squares = HeadSquares<S>;
    float square = 0;
#pragma unroll
    for (int i = 0; i < Squares::kShare; ++i) square += *Squares::at(b, token, row / kHeadDim, i);
    return rsqrtf(square * (1.0f / kHeadDim) + kNormEps);
  }

  /** Of queries and keys what is rotated together are neighbours. */
  DEVICE void use(const Piece& o, const Values<8>& of_rows, const Values<8>& rotations) const {
    if (!o.in_bounds) return;
    const bool value = is_value(o.row);
    const int element = o.row % kHeadDim, position = b.position() + o.token;
    const float by = kQkNorm && !value ? factor(o.token % S::kTokens, o.row % S::kRows) : 1.0f;
    Values<8> x = each<8>([&](int i) { return Bias ? o.y[i] + of_rows[i] : kQkNorm && !value ? o.y[i] * by * of_rows[i] : o.y[i]; });
    if (!value) {
#pragma unroll
      for (int i = 0; i < 8; i += 2) {
        const float2 turned = rotated(make_float2(x[i], x[i + 1]), make_float2(rotations[i], rotations[i + 1]));
        x[i] = turned.x, x[i + 1] = turned.y;
      }
    }
    if (o.row < kQDim) {
      *reinterpret_cast<uint4*>(queries + (size_t(o.token) * kQHeads + o.row / kHeadDim) * kHeadPad + element) = words_of(x);
    } else {
      const int head = (o.row - kQDim) % kKvDim / kHeadDim;
      uint4* const cached = reinterpret_cast<uint4*>(positions) + (size_t(head) * b.args.pass.context + position) * (kHeadPad / 4);
      cached[swizzled((value ? kHeadPad / 8 : 0) + element / 8, position)] = words_of(x);
    }
  }
};

}  // namespace tiles
