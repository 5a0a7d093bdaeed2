// The block's own copy of the activations that a matmul reads, at the start of b.scratch, in the order in which its loads want them.
#pragma once
#include "weights.cuh"

// model.h gives Matrix and kPassTokens.
static_assert(kPassTokens >= 1 && kPassTokens <= 8, "a pass has 1 to 8 tokens");

/** Several tokens and 16-bit weights go through the tensor cores; then an activation is kept as the sum of two Weights. */
constexpr bool kTensorCores = sizeof(Matrix) == 2 && kPassTokens > 1;

/**
 * One token, or float weights: where element k of a token is. A warp's loads of weights cover 32 * V elements, V = kLoadElements;
 * with V = 8 the first four floats of all lanes come first, then the second four, so that 16-byte reads of a warp meet no bank twice.
 */
template <int K>
BOTH constexpr int input_slot(int k) {
  constexpr int V = kLoadElements;
  if constexpr (V <= 4) return k;
  const int span = 32 * V, chunk = k / span, rest = k % span;
  const int left = padded(K) - chunk * span, lanes = (left < span ? left : span) / V;
  return chunk * span + (rest % V) / 4 * (lanes * 4) + rest / V * 4 + rest % 4;
}

/** Tensor cores: index of element k of a token in each of the two planes [padded(K) / 32][kPassTokens][32] of Matrix. */
BOTH constexpr int input_cell(int token, int k) { return (k / 32 * kPassTokens + token) * 32 + k % 32; }

/** Stores elements [k, k + W) of a token; tokens: of the pass, as matmul will be told. */
template <int K, int W>
DEVICE void store_input(Block& b, int tokens, int token, int k, const float (&v)[W]) {
  if constexpr (kTensorCores) {
    if (tokens > 1) {
      Matrix* const high = reinterpret_cast<Matrix*>(b.scratch) + input_cell(token, k);
      Matrix* const low = high + kPassTokens * padded(K);
      struct alignas(W * sizeof(Matrix)) Pack {
        Matrix v[W];
      } h, l;
#pragma unroll
      for (int i = 0; i < W; ++i) {
        h.v[i] = to_element<Matrix>(v[i]);
        l.v[i] = to_element<Matrix>(v[i] - to_float(h.v[i]));
      }
      *reinterpret_cast<Pack*>(high) = h;
      *reinterpret_cast<Pack*>(low) = l;
      return;
    }
  }
  float* const at = b.scratch + token * padded(K) + input_slot<K>(k);
  if constexpr (W == 4)
    *reinterpret_cast<float4*>(at) = make_float4(v[0], v[1], v[2], v[3]);
  else if constexpr (W == 2)
    *reinterpret_cast<float2*>(at) = make_float2(v[0], v[1]);
  else
    *at = v[0];
}

/** Zeros after element K: the weights there are zero, and zero times whatever was in memory might not be. */
template <int K>
DEVICE void pad_input(Block& b, int tokens) {
  constexpr int kPad = padded(K) - K;
  if constexpr (kPad > 0) {
    const float zero[1] = {0};
    for (int i = opaque(int(threadIdx.x)); i < tokens * kPad; i += kThreads)
      store_input<K, 1>(b, tokens, i / kPad, K + i % kPad, zero);
  }
}

/** Copies src [tokens][K]. */
template <int K>
DEVICE void gather_input(Block& b, const float* src, int tokens) {
  constexpr int W = activation_width(K), kItems = K / W, kTogether = 4;
  __syncthreads();
  for (int first = opaque(int(threadIdx.x)); first < tokens * kItems; first += kTogether * kThreads) {
    float v[kTogether][W];
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      const int item = first + u * kThreads;
      if (item < tokens * kItems) load_activation<W>(v[u], src + item * W);
    }
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      const int item = first + u * kThreads;
      if (item < tokens * kItems) store_input<K, W>(b, tokens, item / kItems, item % kItems * W, v[u]);
    }
  }
  pad_input<K>(b, tokens);
  __syncthreads();
}
