// RMSNorm of whole vectors: into the matmul input, or into global memory.
#pragma once
#include "input.cuh"

DEVICE float* shared_warp_sums() {
  __shared__ float sums[kWarps];
  return sums;
}

/**
 * Norms src [tokens][K], `Team` warps a token, and gives every W neighbouring results to store(token, k, values).
 * x / sqrt(mean(x^2) + eps) * weight. Source: Zhang & Sennrich 2019, eq. 4; eps added to the mean square, as Hugging Face does.
 */
template <int K, int Team, class Store>
DEVICE void norm_vectors(const float* src, const float* weight, float eps, int tokens, Store&& store) {
  constexpr int W = activation_width(K), kItems = K / W, kLanes = Team * 32, kEach = divide_up(kItems, kLanes);
  constexpr int kHeld = kEach < 8 ? kEach : 8;  // vectors a thread keeps; the rest it reads again
  constexpr bool kWeightFirst = kEach <= 2;     // few enough to have the weights in flight too
  const int thread = opaque(int(threadIdx.x)), token = thread / 32 / Team, first = thread - token * kLanes;
  const bool mine = token < tokens;
  const float* const x = src + size_t(mine ? token : 0) * K;
  // Threads without an item read the last one, and leave it out: that is cheaper than a branch around the loads.
  const auto has = [&](int i) { return mine && first + i * kLanes < kItems; };
  const auto at = [&](int i) { return min(first + i * kLanes, kItems - 1) * W; };
  float* const sums = shared_warp_sums();

  float held[kHeld][W], scale[kWeightFirst ? kHeld : 1][W];
#pragma unroll
  for (int i = 0; i < kHeld; ++i) load_activation<W>(held[i], x + at(i));
  if constexpr (kWeightFirst) {
#pragma unroll
    for (int i = 0; i < kHeld; ++i) load_activation<W>(scale[i], weight + at(i));
  }
  float square = 0;
#pragma unroll
  for (int i = 0; i < kHeld; ++i)
#pragma unroll
    for (int j = 0; j < W; ++j) square = has(i) ? fmaf(held[i][j], held[i][j], square) : square;
#pragma unroll 4
  for (int i = kHeld; i < kEach; ++i) {
    float v[W];
    load_activation<W>(v, x + at(i));
#pragma unroll
    for (int j = 0; j < W; ++j) square = has(i) ? fmaf(v[j], v[j], square) : square;
  }
  square = warp_sum(square);
  __syncthreads();  // whoever read the sums or the input before is done
  if (thread % 32 == 0) sums[thread / 32] = square;
  __syncthreads();
  if (!mine) return;
  float total = 0;
#pragma unroll
  for (int i = 0; i < Team; ++i) total += sums[token * Team + i];
  const float factor = rsqrtf(total * (1.0f / K) + eps);
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    if constexpr (!kWeightFirst) load_activation<W>(scale[0], weight + at(i));
#pragma unroll
    for (int j = 0; j < W; ++j) held[i][j] *= factor * scale[kWeightFirst ? i : 0][j];
    if (has(i)) store(token, at(i), held[i]);
  }
#pragma unroll 4
  for (int i = kHeld; i < kEach; ++i) {
    float v[W], s[W];
    load_activation<W>(v, x + at(i));
    load_activation<W>(s, weight + at(i));
#pragma unroll
    for (int j = 0; j < W; ++j) v[j] *= factor * s[j];
    if (has(i)) store(token, at(i), v);
  }
}

/** The matmul input := RMSNorm of src [tokens][K] with weight [K]. */
template <int K>
DEVICE void norm_input(Block& b, const float* src, const float* weight, float eps, int tokens) {
  if (tokens == 0) return;
  constexpr int W = activation_width(K);
  const auto store = [&](int token, int k, const float(&v)[W]) { store_input<K, W>(b, tokens, token, k, v); };
  if constexpr (kPassTokens == 1) {
    norm_vectors<K, kWarps>(src, weight, eps, tokens, store);
  } else {
    if (tokens == 1)
      norm_vectors<K, kWarps>(src, weight, eps, 1, store);
    else
      norm_vectors<K, kWarps / kPassTokens>(src, weight, eps, tokens, store);
  }
  pad_input<K>(b, tokens);
  __syncthreads();
}

/** dst [K] := RMSNorm of src [K], by the whole block. */
template <int K>
DEVICE void norm(Block&, float* dst, const float* src, const float* weight, float eps) {
  constexpr int W = activation_width(K);
  norm_vectors<K, kWarps>(src, weight, eps, 1, [&](int, int k, const float(&v)[W]) {
#pragma unroll
    for (int j = 0; j < W; ++j) dst[k + j] = v[j];
  });
}
