// Vectors of a head, in the hands of a warp: queries, keys and values, their norm and their rotation.
//
// Elements i and i + D/2, which the rotation turns together, are neighbours in what is handed over: a word is such a pair.
#pragma once
#include "product.cuh"

constexpr int kPairs = kHeadDim / 2, kPairSlots = divide_up(kPairs, 32);  // words of a head, and how many a lane has
/** Squares of a head, each summed over four rows, and how many a lane has; of all queries and keys of a token. */
constexpr int kHeadSquares = divide_up(kHeadDim, 4), kSquareSlots = divide_up(kHeadSquares, 32);
constexpr int kTokenSquares = (kQHeads + kKvHeads) * kHeadSquares;

/** What is done with queries and keys where attention reads them: the whole norm, the rotation, or the factor of a norm whose weights are in. */
template <bool Norm, bool Rotate, bool Factor>
struct HeadPrologue {
  static constexpr bool kNorm = Norm, kRotate = Rotate, kFactor = Factor;
};

/** The pair of a head's elements that a lane holds in place i. */
DEVICE int pair_at(int i) { return lane() + 32 * i; }

/** A lane's weights of a norm over a head. */
template <class Heads>
struct HeadScale {
  float2 scale[kPairSlots];

  DEVICE explicit HeadScale(const Vector* norm) {
    if constexpr (Heads::kNorm) {
#pragma unroll
      for (int i = 0; i < kPairSlots; ++i) {
        const int pair = min(pair_at(i), kPairs - 1);
        scale[i] = make_float2(to_float(norm[pair]), to_float(norm[pair + kPairs]));
      }
    }
  }
};

/** Cosine and sine by which a pair is turned at a position. */
DEVICE float2 rotation_at(const LaunchArgs& pass, int position, int pair) {
  const float* const row = pass.rope + size_t(min(position, pass.context - 1)) * kHeadDim;
  return __ldg(reinterpret_cast<const float2*>(row) + pair);
}

DEVICE float2 rotated(float2 x, float2 by) { return make_float2(x.x * by.x - x.y * by.y, x.y * by.x + x.x * by.y); }

/** A lane's cosines and sines of a position. */
template <class Heads>
struct Rotation {
  float2 by[kPairSlots];

  DEVICE void load(const LaunchArgs& pass, int position) {
    if constexpr (Heads::kRotate) {
#pragma unroll
      for (int i = 0; i < kPairSlots; ++i) by[i] = rotation_at(pass, position, min(pair_at(i), kPairs - 1));
    }
  }
};

/** The elements of a head's vector that a lane holds, and where its norm is made of them the squares. */
template <bool Squares>
struct HeadVector {
  unsigned w[kPairSlots];
  unsigned square[Squares ? kSquareSlots : 1];

  /** From words [first, first + kPairs) of a token. */
  template <int T>
  DEVICE void load(const Published& words, const Published& squares, int first, int token) {
#pragma unroll
    for (int i = 0; i < kPairSlots; ++i)
      w[i] = pair_at(i) < kPairs ? load_words<1>(words, word_at<T>(first + pair_at(i), token)).v[0] : 0;
    if constexpr (Squares) {
      const int at = token * kTokenSquares + first / kPairs * kHeadSquares;
#pragma unroll
      for (int i = 0; i < kSquareSlots; ++i)
        square[i] = pair_at(i) < kHeadSquares ? load_words<1>(squares, at + pair_at(i)).v[0] : 0;
    }
  }

  DEVICE bool here() const {
    bool all = true;
#pragma unroll
    for (int i = 0; i < kPairSlots; ++i) all &= w[i] != kSentinel;
    if constexpr (Squares) {
#pragma unroll
      for (int i = 0; i < kSquareSlots; ++i) all &= square[i] != kSentinel;
    }
    return all;
  }
};

/** What is left to do with vectors of queries and keys; the sums of all vectors run side by side. */
template <class Heads, int N>
DEVICE void norm_and_rotate(HeadVector<Heads::kFactor> (&v)[N], const HeadScale<Heads>* const (&norm)[N],
                            const Rotation<Heads>* const (&rotation)[N]) {
  float square[N];
#pragma unroll
  for (int n = 0; n < N; ++n) {
    square[n] = 0;
    if constexpr (Heads::kFactor) {
#pragma unroll
      for (int i = 0; i < kSquareSlots; ++i) square[n] += __uint_as_float(v[n].square[i]);
    } else {
#pragma unroll
      for (int i = 0; i < kPairSlots; ++i) {
        const float2 x = pair_of(v[n].w[i]);
        square[n] = fmaf(x.x, x.x, fmaf(x.y, x.y, square[n]));
      }
    }
  }
  constexpr bool kNormed = Heads::kNorm || Heads::kFactor;
  if constexpr (kNormed) {
#pragma unroll
    for (int other = 16; other > 0; other /= 2)
#pragma unroll
      for (int n = 0; n < N; ++n) square[n] += __shfl_xor_sync(~0u, square[n], other);
  }
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const float factor = kNormed ? inverse_root(square[n] * (1.0f / kHeadDim) + kNormEps) : 1.0f;
#pragma unroll
    for (int i = 0; i < kPairSlots; ++i) {
      float2 x = pair_of(v[n].w[i]);
      // The factor, which comes last, goes in last.
      if constexpr (Heads::kNorm) x.x *= norm[n]->scale[i].x, x.y *= norm[n]->scale[i].y;
      if constexpr (Heads::kRotate) x = rotated(x, rotation[n]->by[i]);
      if constexpr (kNormed) x.x *= factor, x.y *= factor;
      if constexpr (kNormed || Heads::kRotate) v[n].w[i] = pair_word(x.x, x.y);
    }
  }
}

/** Weights of the norms over query and key heads [kHeadDim]; null without. */
struct HeadNorms {
  const Vector *query, *key;
};

/** Where in the words of a token a head's queries, keys and values begin. */
DEVICE int query_word(int head) { return head * kPairs; }
DEVICE int key_word(int head) { return (kQDim + head * kHeadDim) / 2; }
DEVICE int value_word(int head) { return (kQDim + kKvDim + head * kHeadDim) / 2; }

/** What a row of queries, keys and values takes in the epilogue of its product, loaded before the product's input is waited for. */
template <bool Bias, bool Norm, bool Rotate>
struct HeadRow {
  float bias;
  float2 scale, by;  // of the pair that begins with this row: weights of its norm, its rotation

  DEVICE static HeadRow load(const LaunchArgs& pass, const float* biases, const HeadNorms& norms, int row, int position) {
    HeadRow it{};
    const bool key = row >= kQDim, value = row >= kQDim + kKvDim;
    const int pair = row % kHeadDim / 2;
    if constexpr (Bias) it.bias = row < kQkvRows ? biases[PairedHeads{}(row)] : 0.0f;
    if constexpr (Norm) {
      const Vector* const norm = key ? norms.key : norms.query;
      it.scale = value ? make_float2(1, 1) : make_float2(to_float(norm[pair]), to_float(norm[pair + kPairs]));
    }
    if constexpr (Rotate) it.by = value ? make_float2(1, 0) : rotation_at(pass, position, pair);
    return it;
  }

  /** The pair that begins with a row, of which `next` is the other, but for the factor of the norm. */
  DEVICE float2 turned(float y, float next) const {
    float2 x = make_float2(y, next);
    if constexpr (Norm) x.x *= scale.x, x.y *= scale.y;
    return Rotate ? rotated(x, by) : x;
  }
};

/** Publishes the rotated pair that begins with a row. */
template <int T, class Exchange, class Row>
DEVICE void publish_rotated_row(const Exchange& to, int epoch, const Output& o, float y, const Row& row) {
  const float2 pair = row.turned(y, o.next(y));
  if (o.even() && o.row < kQkvRows) to.publish(epoch, word_at<T>(o.row / 2, o.token), pair_word(pair.x, pair.y));
}

/** Publishes the squares of queries and keys, summed over four rows. */
template <int T, class Exchange>
DEVICE void publish_squares(const Exchange& to, int epoch, const Output& o, float y) {
  float square = y * y;
  square += o.next(square);
  square += o.second_next(square);
  if (o.in_bounds && o.row % 4 == 0 && o.row < kQDim + kKvDim)
    to.publish(epoch, o.token * kTokenSquares + o.row / 4, __float_as_uint(square));
}
