// The functions of host/prompt_calls.h; included after the kernels.
#pragma once
#include <cuda_runtime.h>

#include <type_traits>

#include "host/prompt_calls.h"

namespace tiles {

static_assert(sizeof(PromptArgs) <= 4096, "the arguments of a launch");
static_assert(kSharedBytes + kStaticBytes <= kSharedLimit, "see codegen/schemes/tiles/sizes.ts");

/** What f(K) returns for kernel number `kernel`. */
template <int K = 0, class F>
auto with_kernel(int kernel, F&& f) {
  if constexpr (K + 1 < kKernelCount) {
    if (kernel > K) return with_kernel<K + 1>(kernel, f);
  }
  return f(std::integral_constant<int, K>{});
}

template <int K>
cudaError_t prepare_kernel(int* fitting) {
  const void* const kernel = reinterpret_cast<const void*>(prompt<K>);
  cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  if (status == cudaSuccess) status = cudaOccupancyMaxActiveBlocksPerMultiprocessor(fitting, kernel, kLaunchThreads, kSharedBytes);
  return status;
}

template <int K>
cudaError_t launch(const PromptArgs& args, int blocks, cudaStream_t stream) {
  void* arguments[] = {const_cast<PromptArgs*>(&args)};
  return cudaLaunchCooperativeKernel(reinterpret_cast<const void*>(prompt<K>), dim3(blocks), dim3(kLaunchThreads), arguments, kSharedBytes, stream);
}

}  // namespace tiles

// One block a multiprocessor.
cudaError_t kernel_prompt_blocks(int gpu, int* blocks) {
  *blocks = 0;
  int multiprocessors = 0;
  cudaError_t status = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, gpu);
  bool fit = true;
  for (int kernel = 0; kernel < tiles::kKernelCount; ++kernel) {
    int fitting = 0;
    if (status == cudaSuccess)
      status = tiles::with_kernel(kernel, [&](auto k) { return tiles::prepare_kernel<decltype(k)::value>(&fitting); });
    fit = fit && fitting > 0;
  }
  if (status == cudaSuccess && fit) *blocks = multiprocessors;
  return status;
}

cudaError_t kernel_prompt(const PromptArgs& args, int blocks, cudaStream_t stream) {
  const int kernel = tiles::kernel_of(args.rows > 0 ? args.rows : args.pass.tokens);
  return tiles::with_kernel(kernel, [&](auto k) { return tiles::launch<decltype(k)::value>(args, blocks, stream); });
}
