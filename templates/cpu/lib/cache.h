// Keys and values as the cache has them: plain numbers, or numbers that share a scale for each position and head.
#pragma once
#include <type_traits>

#include "lib/simd.h"

// As in step.h: what has a name here is this instruction set's own.
namespace {
template <class C> struct NumberOf {
  using Type = C;
};
template <class Q, int D> struct NumberOf<scaled_row<Q, D>> {
  using Type = Q;
};
}  // namespace

/** What a row of C is made of, before it is scaled. */
template <class C> using Number = typename NumberOf<C>::Type;
template <class C> constexpr bool kScaled = !std::is_same_v<Number<C>, C>;

template <class C> DEVICE const C* numbers_of(const C* row) { return row; }
template <class Q, int D> DEVICE const Q* numbers_of(const scaled_row<Q, D>* row) { return row->q; }

/** Numbers from one position to the next, whose key and value have D each; scales between them count as numbers. */
template <int D, class C> constexpr int64_t kPositionStride = stored<C>(2 * D) * (int64_t)(sizeof(C) / sizeof(Number<C>));

/** The largest Q, which the largest number of a row becomes. */
template <class Q> constexpr float kLargest = 0;
template <> inline constexpr float kLargest<int8_t> = 127;

/** row := x [D], rounded. */
template <int D, class C> DEVICE void store_row(C* row, const float* x) {
  for (int i = 0; i < D; ++i) round_to(row + i, x[i]);
}
/** The same with a scale: numbers that are not finite make it NaN, so that all that is computed from the row is NaN. */
template <int D, class Q> DEVICE void store_row(scaled_row<Q, D>* row, const float* x) {
  constexpr uint32_t infinity = 0x7f800000;
  uint32_t most = 0;
  for (int i = 0; i < D; ++i) {
    const uint32_t magnitude = bits_from_float(x[i]) & 0x7fffffff;
    most = magnitude > most ? magnitude : most;
  }
  row->scale = most < infinity ? float_from_bits(most) / kLargest<Q> : __builtin_nanf("");
  const float divisor = row->scale > 0 ? row->scale : 1;  // of nothing but zeros, or of too little: all become 0
  for (int i = 0; i < D; ++i) round_to(row->q + i, x[i] / divisor);
}

/** scales [kPositions] := those of rows `stride` C apart, zeros behind them. */
template <int Positions, class C> DEVICE void read_scales(float* scales, const C* rows, int64_t stride, int positions) {
  for (int p = 0; p < Positions; ++p) scales[p] = p < positions ? rows[p * stride].scale : 0.0f;
}
