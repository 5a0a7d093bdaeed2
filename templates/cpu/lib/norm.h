// RMSNorm.
#pragma once
#include "lib/team.h"
#include "lib/simd.h"

/** 1 / sqrt(mean(x^2) + eps) of x [K]. */
template <int K> DEVICE float norm_scale(const float* x, float eps) {
  constexpr int whole = K / kStep * kStep;
  Vec squares[2] = {};
  for (int i = 0; i < whole; i += kStep) {
    for (int half = 0; half < 2; ++half) {
      const Vec part = load(x + i + half * kLanes);
      squares[half] = multiply_add(part, part, squares[half]);
    }
  }
  float total = sum(squares[0] + squares[1]);
  for (int i = whole; i < K; ++i) total += x[i] * x[i];
  return 1.0f / __builtin_sqrtf(total / K + eps);
}

/** dst = src / sqrt(mean(src^2) + eps) * weight, all [D]; dst may equal src. */
template <int D> DEVICE void head_norm(float* dst, const float* src, const float* weight, float eps) {
  const float scale = norm_scale<D>(src, eps);
  constexpr int whole = D / kLanes * kLanes;
  for (int i = 0; i < whole; i += kLanes) store(dst + i, load(src + i) * splat(scale) * load(weight + i));
  for (int i = whole; i < D; ++i) dst[i] = src[i] * scale * weight[i];
}

/** The same for one token [K]. */
template <int K> DEVICE void norm(Block&, float* dst, const float* src, const float* weight, float eps) {
  head_norm<K>(dst, src, weight, eps);
}
