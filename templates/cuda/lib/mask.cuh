// Which tokens may be chosen, where that is known before a launch: a bias of -infinity for all others, so that the sampler knows nothing of masks.
#pragma once
#include <cuda_runtime.h>

#include "host/calls.h"

namespace {

constexpr int kMaskThreads = 256;

__device__ bool is_banned(const unsigned* words, int vocab, int id) { return id < vocab && (words[id / 32] >> id % 32 & 1) == 0; }

/** masked [kVocab] := bias, or 0 where there is none, and -infinity for tokens [vocab] without a bit in words [(vocab + 31) / 32]. */
__global__ void __launch_bounds__(kMaskThreads) mask_bias(const unsigned* words, const float* bias, int vocab, float* masked) {
  const int id = int(blockIdx.x) * kMaskThreads + int(threadIdx.x);
  if (id >= kVocab) return;
  masked[id] = is_banned(words, vocab, id) ? __int_as_float(int(0xff800000u)) : bias ? bias[id] : 0.0f;
}

constexpr int kMaskBlocks = (kVocab + kMaskThreads - 1) / kMaskThreads;

}  // namespace

cudaError_t kernel_mask(const unsigned* words, const float* bias, int vocab, float* masked, cudaStream_t stream) {
  mask_bias<<<kMaskBlocks, kMaskThreads, 0, stream>>>(words, bias, vocab, masked);
  return cudaGetLastError();
}
