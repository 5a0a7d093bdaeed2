// Rotary embedding of one head, and its way into the cache.
#pragma once
#include "lib/cache.h"

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

/** The key and the value at cache_row := k [D], v [D], rounded. */
template <int D, class C> DEVICE void append(C* cache_row, const float* k, const float* v) {
  store_row<D>(cache_row, k);
  store_row<D>(cache_row + stored<C>(D), v);
}
