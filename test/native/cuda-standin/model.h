// Hand-written stand-in for a generated model.h: the layout of a cooperative plan, for two sets of dimensions.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "abi.h"
#include "lib/types.cuh"
#include "slots.h"

constexpr int kThreads = 512;  // of a block
constexpr int kWarps = kThreads / 32;
constexpr int kProducerThreads = 0;  // of a block: all compute
constexpr int kMostBlocks = 0;
constexpr int kLoadBits = 128;
constexpr int kInFlight = 12;
constexpr int kBuffers = 0;
constexpr int kProducerWarps = 0;
constexpr int kRingBytes = 0;
constexpr bool kGridSync = false;
#ifdef STANDIN_ODD  // every size odd in some way: heads of 20, groups of 3, columns that are no multiple of 32, fp16, biases
constexpr int kLayers = 3;
constexpr int kHidden = 100;
constexpr int kFfn = 276;
constexpr int kQHeads = 6;
constexpr int kKvHeads = 2;
constexpr int kHeadDim = 20;
constexpr int kVocab = 1003;
constexpr int kPassTokens = 4;
constexpr int kSplits = 9;
using Matrix = fp16;
using Cache = fp16;
#else  // like Qwen3-0.6B on 132 multiprocessors
constexpr int kLayers = 28;
constexpr int kHidden = 1024;
constexpr int kFfn = 3072;
constexpr int kQHeads = 16;
constexpr int kKvHeads = 8;
constexpr int kHeadDim = 128;
constexpr int kVocab = 151936;
constexpr int kPassTokens = STANDIN_TOKENS;
constexpr int kSplits = 16;
using Matrix = bf16;
using Cache = bf16;
#endif
constexpr int kGroup = kQHeads / kKvHeads;
constexpr int kQDim = kQHeads * kHeadDim;
constexpr int kKvDim = kKvHeads * kHeadDim;
constexpr int kQkvRows = kQDim + 2 * kKvDim;
constexpr int kPartialFloats = kQHeads * kSplits * (kHeadDim + 2);
constexpr float kNormEps = 1e-6f;
constexpr float kAttnScale = 0.0883883461f;
constexpr float kLogitFactor = 1.0f;

// Packed weights of a layer: matrices, then vectors.
BOTH constexpr int64_t matrix_bytes(int64_t rows, int k) { return (rows * padded(k) * int64_t(sizeof(Matrix)) + 255) / 256 * 256; }
BOTH constexpr int64_t vector_bytes(int k) { return (k * int64_t(sizeof(float)) + 255) / 256 * 256; }
constexpr int64_t kQkvAt = 0;
constexpr int64_t kOAt = kQkvAt + matrix_bytes(kQkvRows, kHidden);
constexpr int64_t kGateUpAt = kOAt + matrix_bytes(kHidden, kQDim);
constexpr int64_t kDownAt = kGateUpAt + matrix_bytes(2 * kFfn, kHidden);
constexpr int64_t kAttnNormAt = kDownAt + matrix_bytes(kHidden, kFfn);
constexpr int64_t kFfnNormAt = kAttnNormAt + vector_bytes(kHidden);
constexpr int64_t kQNormAt = kFfnNormAt + vector_bytes(kHidden);
constexpr int64_t kKNormAt = kQNormAt + vector_bytes(kHeadDim);
constexpr int64_t kLayerBytes = kKNormAt + vector_bytes(kHeadDim);
constexpr int64_t kEmbeddingAt = kLayers * kLayerBytes;
constexpr int64_t kFinalNormAt = kEmbeddingAt + matrix_bytes(kVocab, kHidden);
constexpr int64_t kWeightBytes = kFinalNormAt + vector_bytes(kHidden);

// Scratch of a block: the widest matmul input; in attention q and k of the kv head, then attend's own.
constexpr int most_of(int a, int b) { return a > b ? a : b; }
constexpr int kQrAt = 0;
constexpr int kKrAt = kPassTokens * kGroup * kHeadDim;
constexpr int kAttendAt = (kKrAt + kPassTokens * kHeadDim + 31) / 32 * 32;
constexpr int kAttendFloats = 16 * most_of(1, kGroup * kPassTokens < 2 ? kGroup * kPassTokens : 2) * (kHeadDim + 2);
constexpr int kScratchFloats =
    most_of(most_of(kPassTokens * padded(most_of(most_of(kHidden, kFfn), kQDim)), kAttendAt + kAttendFloats), 8192);

struct Pass {
  int tokens;
  int position;
  int first_logits;
  int sample;
  int context;
  Sampling sampling;
  const int* ids;       // [kPassTokens]
  int* next;            // [1]
  int* counts;          // [kVocab]
  const float* bias;    // [kVocab]
  const char* weights;  // packed, kWeightBytes
  Cache* cache;        // [kLayers][kKvHeads][context][2][kHeadDim]
  const float* rope;    // [context][kHeadDim / 2][2] cos, sin
  float* logits;        // [kPassTokens][kVocab]
  unsigned* barrier;
  float* x;        // [kPassTokens][kHidden]
  float* qkv;      // [kPassTokens][kQkvRows]
  float* partial;  // [kPassTokens][kPartialFloats]
  float* h;        // [kPassTokens][kFfn]
};

struct LayerWeights {
  const Matrix *qkv, *o, *gate_up, *down;
  const float *attn_norm, *ffn_norm, *q_norm, *k_norm;
  Cache* cache;  // [kKvHeads][context][2][kHeadDim]
};

__host__ __device__ inline LayerWeights layer_weights(const Pass& pass, int layer) {
  const char* base = pass.weights + layer * kLayerBytes;
  return {
      reinterpret_cast<const Matrix*>(base + kQkvAt),
      reinterpret_cast<const Matrix*>(base + kOAt),
      reinterpret_cast<const Matrix*>(base + kGateUpAt),
      reinterpret_cast<const Matrix*>(base + kDownAt),
      reinterpret_cast<const float*>(base + kAttnNormAt),
      reinterpret_cast<const float*>(base + kFfnNormAt),
      reinterpret_cast<const float*>(base + kQNormAt),
      reinterpret_cast<const float*>(base + kKNormAt),
      pass.cache + static_cast<size_t>(layer) * kKvHeads * pass.context * 2 * kHeadDim,
  };
}

constexpr int64_t activation_bytes(int64_t floats) { return (kPassTokens * floats * 4 + 255) / 256 * 256; }
constexpr int64_t kActivationBytes = activation_bytes(kHidden) + activation_bytes(kQkvRows) + activation_bytes(kPartialFloats) + activation_bytes(kFfn);

inline void bind_activations(Pass& pass, char* base) {
  pass.x = reinterpret_cast<float*>(base);
  pass.qkv = reinterpret_cast<float*>(base += activation_bytes(kHidden));
  pass.partial = reinterpret_cast<float*>(base += activation_bytes(kQkvRows));
  pass.h = reinterpret_cast<float*>(base += activation_bytes(kPartialFloats));
}
