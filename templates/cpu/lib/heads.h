// Rotary embedding of one head, and its way into the cache.
#pragma once
#include "lib/simd.h"

/** Rotates pairs (i, i + D/2) of src [D] by the angles of row [D/2][2] (cos, sin); dst may equal src. */
template <int D> DEVICE void rope(float* dst, const float* src, const float* row) {
  constexpr int half = D / 2, whole = half / kLanes * kLanes;
  for (int i = 0; i < whole; i += kLanes) {
    const Vec angles = load(row + 2 * i), more = load(row + 2 * i + kLanes);
    const Vec cosine = even(angles, more), sine = odd(angles, more);
    const Vec low = load(src + i), high = load(src + i + half);
    store(dst + i, low * cosine - high * sine);
    store(dst + i + half, high * cosine + low * sine);
  }
  for (int i = whole; i < half; ++i) {
    const float cosine = row[2 * i], sine = row[2 * i + 1], low = src[i], high = src[i + half];
    dst[i] = low * cosine - high * sine;
    dst[i + half] = high * cosine + low * sine;
  }
}

/** cache_row [2][D] := k [D], v [D], rounded. */
template <int D> DEVICE void append(Cache* cache_row, const float* k, const float* v) {
  for (int i = 0; i < D; ++i) round_to(cache_row + i, k[i]);
  for (int i = 0; i < D; ++i) round_to(cache_row + D + i, v[i]);
}
