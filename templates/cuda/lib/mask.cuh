// Which tokens may be chosen: a bias of -infinity for all others, or logits that are no match, so that the sampler knows nothing of masks.
#pragma once
#include <cuda_runtime.h>

#include "host/calls.h"
#include "host/finite.h"

namespace {

constexpr int kMaskThreads = 256;

/** Finite, so that no sampler takes it for a fault; no bias and no penalty brings it back. */
constexpr float kNoMatch = -1e30f;

__device__ bool is_banned(const unsigned* words, int vocab, int id) { return id < vocab && (words[id / 32] >> id % 32 & 1) == 0; }

/** masked [kVocab] := bias, or 0 where there is none, and -infinity for tokens [vocab] without a bit in words [(vocab + 31) / 32]. */
__global__ void __launch_bounds__(kMaskThreads) mask_bias(const unsigned* words, const float* bias, int vocab, float* masked) {
  const int id = int(blockIdx.x) * kMaskThreads + int(threadIdx.x);
  if (id >= kVocab) return;
  masked[id] = is_banned(words, vocab, id) ? __int_as_float(int(0xff800000u)) : bias ? bias[id] : 0.0f;
}

/** to [kVocab] := logits; kNoMatch where they are finite, of tokens [vocab] without a bit in words, unless these are null. */
__global__ void __launch_bounds__(kMaskThreads) mask_logits(const unsigned* words, const float* logits, int vocab, float* to) {
  const int id = int(blockIdx.x) * kMaskThreads + int(threadIdx.x);
  if (id >= kVocab) return;
  const float logit = logits[id];
  to[id] = words && is_banned(words, vocab, id) && !not_finite(__float_as_uint(logit)) ? kNoMatch : logit;
}

constexpr int kMaskBlocks = (kVocab + kMaskThreads - 1) / kMaskThreads;

}  // namespace

cudaError_t kernel_mask(const unsigned* words, const float* bias, int vocab, float* masked, cudaStream_t stream) {
  mask_bias<<<kMaskBlocks, kMaskThreads, 0, stream>>>(words, bias, vocab, masked);
  return cudaGetLastError();
}

cudaError_t kernel_mask_logits(const unsigned* words, const float* logits, int vocab, float* to, cudaStream_t stream) {
  mask_logits<<<kMaskBlocks, kMaskThreads, 0, stream>>>(words, logits, vocab, to);
  return cudaGetLastError();
}
