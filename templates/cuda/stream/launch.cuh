// The functions that the host code calls; included behind the kernels.
#pragma once
#include <cuda_runtime.h>

#include <type_traits>

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
cudaError_t launch(const Pass& pass, cudaStream_t stream) {
  void* arguments[] = {const_cast<Pass*>(&pass)};
  return cudaLaunchCooperativeKernel(reinterpret_cast<const void*>(decode<T>), dim3(kBlocks), dim3(kBlockThreads), arguments,
                                     shared_bytes<T>(), stream);
}

}  // namespace

/** Blocks of a launch if all fit on the device together; 0 if not. Returns a cudaError_t. */
extern "C" int kernel_blocks(int device, int* blocks) {
  *blocks = 0;
  int multiprocessors = 0;
  cudaError_t status = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
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

/**
 * Starts a launch on a stream (a cudaStream_t): one pass of several tokens, or any number of passes of one. Behind a pass of several tokens
 * the token is sampled by a kernel of its own, unless it is the largest logit. Returns a cudaError_t.
 */
extern "C" int kernel_launch(const Pass& pass, void* stream) {
  const auto on = static_cast<cudaStream_t>(stream);
  const bool apart = pass.tokens > 1 && pass.sample && !is_greedy(pass.sampling);
  Pass made = pass;
  if (apart) made.sample = 0;
  const cudaError_t status = with_kernel(pass.tokens, [&](auto size) { return launch<decltype(size)::value>(made, on); });
  if (status != cudaSuccess || !apart) return status;
  sample<<<1, kThreads, 0, on>>>(pass);
  return cudaGetLastError();
}

/** Starts packing one layer's matrices (layer == kLayers: the head) into the stream. Returns a cudaError_t. */
extern "C" int kernel_pack(const char* kept, const char* staged, char* to, int layer, void* stream) {
  pack<<<kBlocks, 512, 0, static_cast<cudaStream_t>(stream)>>>(kept, staged, to, layer);
  return cudaGetLastError();
}

/** Bytes of the exchanges of a launch with so many tokens a pass: all ones at its start. */
extern "C" int64_t kernel_word_bytes(int tokens) {
  return with_kernel(tokens, [](auto size) { return int64_t(sizeof(unsigned)) * Exchanges<decltype(size)::value>::kUnits; });
}
