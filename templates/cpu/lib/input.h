// The input of a matmul, in the order its inner loop reads it.
//
// One token is padded(K) floats, zeros from K on, each step of kStep floats in the order of load_first, load_second.
// Tokens are interleaved in groups of four, vector by vector; up to three tokens left over follow one by one:
//   step 0: first of tokens 0 1 2 3, second of tokens 0 1 2 3; step 1: ...
#pragma once
#include "lib/norm.h"

constexpr int kTokenGroup = 4;

/** Where vectors of one token lie: vector v (2 s: first, 2 s + 1: second of step s) at start + v * stride. */
struct InputLane {
  float* start;
  int stride;
};

DEVICE InputLane input_lane(float* input, int width, int tokens, int token) {
  const int grouped = tokens / kTokenGroup * kTokenGroup;
  if (token >= grouped) return {input + (int64_t)token * width, kLanes};
  const int group = token / kTokenGroup, member = token % kTokenGroup;
  return {input + (int64_t)group * kTokenGroup * width + member * kLanes, kTokenGroup * kLanes};
}

/** Writes one token's vector of K floats; at(i) gives elements [i, i + kLanes), last(i) one element. */
template <int K, class At, class One> DEVICE void write_input(InputLane lane, At&& at, One&& one) {
  const Matrix* const order = nullptr;
  constexpr int whole = K / kStep * kStep;
  for (int i = 0; i < whole; i += kStep) {
    const Vec a = at(i), b = at(i + kLanes);
    store(lane.start + (int64_t)(i / kLanes) * lane.stride, first_of(order, a, b));
    store(lane.start + (int64_t)(i / kLanes + 1) * lane.stride, second_of(order, a, b));
  }
  for (int i = whole; i < padded(K); i += kStep) {
    float rest[kStep] = {};
    for (int j = 0; j < kStep && i + j < K; ++j) rest[j] = one(i + j);
    const Vec a = load(rest), b = load(rest + kLanes);
    store(lane.start + (int64_t)(i / kLanes) * lane.stride, first_of(order, a, b));
    store(lane.start + (int64_t)(i / kLanes + 1) * lane.stride, second_of(order, a, b));
  }
}

/** Input := src [tokens][K]. */
template <int K> DEVICE void gather_input(Block& b, const float* src, int tokens) {
  for (int token = 0; token < tokens; ++token) {
    const float* x = src + (int64_t)token * K;
    write_input<K>(
        input_lane(b.scratch, padded(K), tokens, token), [=](int i) { return load(x + i); }, [=](int i) { return x[i]; });
  }
}

/** Input := RMSNorm of src [tokens][K] with weight [K]: x / sqrt(mean(x^2) + eps) * weight. */
template <int K> DEVICE void norm_input(Block& b, const float* src, const float* weight, float eps, int tokens) {
  for (int token = 0; token < tokens; ++token) {
    const float* x = src + (int64_t)token * K;
    const float scale = norm_scale<K>(x, eps);
    write_input<K>(
        input_lane(b.scratch, padded(K), tokens, token),
        [=](int i) { return load(x + i) * splat(scale) * load(weight + i); },
        [=](int i) { return x[i] * scale * weight[i]; });
  }
}

