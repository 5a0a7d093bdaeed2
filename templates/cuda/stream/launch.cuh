// The functions of host/calls.h and host/stream_calls.h; included after the kernels.
#pragma once
#include <cuda_runtime.h>

#include <algorithm>
#include <type_traits>

#include "host/calls.h"
#include "host/stream_calls.h"
#include "lib/mask.cuh"

namespace {

constexpr int kBlockThreads = kThreads + kProducerThreads;
static_assert(kProducerThreads >= 96, "a warp each feeds the ring, watches and publishes the cache");

template <int T>
constexpr size_t shared_bytes() {
  return size_t(SharedMemory<T>::kSlots) * kSlotBytes + sizeof(SharedMemory<T>);
}

/** What f(size) returns for the kernel of so many tokens; size.value is the T of decode<T>. */
template <int I = 0, class F>
auto with_kernel(int tokens, F&& f) {
  if constexpr (I + 1 < kKernelCount) {
    if (tokens > kKernels[I].tokens) return with_kernel<I + 1>(tokens, f);
  }
  return f(std::integral_constant<int, kKernels[I].tokens>{});
}

template <int T>
cudaError_t prepare_kernel(int* fitting) {
  static_assert(shared_bytes<T>() + kStaticBytes <= kSharedLimit, "see kernelSize in codegen/schemes/stream/sizes.ts");
  const void* const kernel = reinterpret_cast<const void*>(decode<T>);
  cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes<T>()));
  if (status == cudaSuccess) status = cudaOccupancyMaxActiveBlocksPerMultiprocessor(fitting, kernel, kBlockThreads, shared_bytes<T>());
  return status;
}

template <int T>
cudaError_t launch(const LaunchArgs& pass, int blocks, cudaStream_t stream) {
  void* arguments[] = {const_cast<LaunchArgs*>(&pass)};
  return cudaLaunchCooperativeKernel(reinterpret_cast<const void*>(decode<T>), dim3(blocks), dim3(kBlockThreads), arguments,
                                     shared_bytes<T>(), stream);
}

/** Rows of logits that are chosen from. */
int rows_of(const LaunchArgs& pass) { return pass.batch || pass.check ? pass.tokens : 1; }

/** Whether f(sampling, bias) is true of any row that is chosen from. */
template <class F>
bool any_row(const LaunchArgs& pass, F&& f) {
  if (!pass.batch) return f(pass.sampling, pass.bias);
  return std::any_of(pass.rows, pass.rows + pass.tokens, [&](const BatchRow& row) { return f(row.sampling, row.bias); });
}

/** Whether the best logits that the blocks of a pass have left are not what its rows are chosen by. */
bool needs_scores(const LaunchArgs& pass) {
  if (!pass.batch && !pass.check) return true;  // it left none
  return any_row(pass, [](const Sampling& by, const float* bias) { return !is_greedy(by, bias) && (bias || has_penalties(by) || !is_filtered(by)); });
}

/** Blocks for each row of logits: of filtered ones several look for what may be drawn, each in its part of the vocabulary, all of them at once. */
int parts_of(const LaunchArgs& pass) {
  constexpr int kMostParts = 32, kOfMultiprocessor = 2;
  if (!any_row(pass, [](const Sampling& by, const float*) { return is_filtered(by); })) return 1;
  return std::max(1, std::min({kMostParts, kBlocks, kOfMultiprocessor * kBlocks / rows_of(pass)}));
}

/** Chooses from the logits of a launch, each row by blocks of its own; in a check with penalties row by row. */
cudaError_t start_choice(const LaunchArgs& pass, const RowMasks& masks, float* masked, bool scores, cudaStream_t stream) {
  const bool scored = !(pass.check && has_penalties(pass.sampling));
  if (scores && scored) score<<<dim3(kBlocks, rows_of(pass)), kThreads, 0, stream>>>(pass, masks, masked);
  LaunchArgs by = pass;
  if (masked) by.logits = masked;
  const dim3 blocks = scored ? dim3(parts_of(pass), rows_of(pass)) : dim3(1);
  sample<<<blocks, kThreads, 0, stream>>>(by, scored);
  return cudaGetLastError();
}

}  // namespace

// The plan says how many: kBlocks.
cudaError_t kernel_blocks(int gpu, int* blocks) {
  *blocks = 0;
  int multiprocessors = 0;
  cudaError_t status = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, gpu);
  bool fit = multiprocessors >= kBlocks;
  for (const KernelSize& kernel : kKernels) {
    int of_multiprocessor = 0;
    if (status == cudaSuccess)
      status = with_kernel(kernel.tokens, [&](auto size) { return prepare_kernel<decltype(size)::value>(&of_multiprocessor); });
    fit = fit && of_multiprocessor > 0;
  }
  if (status == cudaSuccess && fit) *blocks = kBlocks;
  return status;
}

// One pass of several tokens, or any number of passes of one. Behind a pass of several tokens a kernel of its own samples, unless there is one
// token to choose and it is the largest logit.
cudaError_t kernel_launch(const LaunchArgs& pass, int blocks, cudaStream_t stream) {
  const bool apart = pass.tokens > 1 && pass.sample && (pass.check || pass.batch || !is_greedy(pass));
  LaunchArgs made = pass;
  if (apart) made.sample = 0;
  const cudaError_t status = with_kernel(pass.tokens, [&](auto size) { return launch<decltype(size)::value>(made, blocks, stream); });
  if (status != cudaSuccess || !apart) return status;
  return start_choice(pass, RowMasks{}, nullptr, needs_scores(pass), stream);
}

cudaError_t kernel_choose(const LaunchArgs& pass, const RowMasks& masks, float* masked, cudaStream_t stream) {
  return start_choice(pass, masks, masked, true, stream);
}

cudaError_t kernel_pack(const char* matrices, char* to, int layer, cudaStream_t stream) {
  pack<<<kBlocks, 512, 0, stream>>>(matrices, to + layer * kStreamLayerBytes);
  return cudaGetLastError();
}

cudaError_t kernel_pack_head(const char* rows, char* to, int first, int count, cudaStream_t stream) {
  pack_head<<<kBlocks, 512, 0, stream>>>(rows, to, first / kRowTile, divide_up(first + count, kRowTile));
  return cudaGetLastError();
}

int64_t kernel_word_bytes(int tokens) {
  return with_kernel(tokens, [](auto size) { return int64_t(sizeof(unsigned)) * Exchanges<decltype(size)::value>::kUnits; });
}
