// The two functions that the host code calls; included behind the kernel `decode`.
#pragma once
#include <cuda_runtime.h>

static_assert(kScratchFloats >= 0 && sizeof(Pass) <= 4096, "the pass is the kernel's argument");

namespace {
constexpr size_t kScratchBytes = size_t(kScratchFloats) * sizeof(float);
}

/** Blocks that can be resident together on a device, one a multiprocessor; 0 if one does not fit. Returns a cudaError_t. */
extern "C" int kernel_blocks(int device, int* blocks) {
  *blocks = 0;
  int multiprocessors = 0, fitting = 0;
  const void* const kernel = reinterpret_cast<const void*>(decode);
  cudaError_t status = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  if (status == cudaSuccess)
    status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(kScratchBytes));
  if (status == cudaSuccess) status = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&fitting, kernel, kThreads, kScratchBytes);
  if (status == cudaSuccess && fitting > 0) *blocks = multiprocessors;
  return status;
}

/** Starts one pass on a stream (a cudaStream_t); all blocks wait for each other, so they are launched together. Returns a cudaError_t. */
extern "C" int kernel_launch(const Pass& pass, int blocks, void* stream) {
  void* arguments[] = {const_cast<Pass*>(&pass)};
  return cudaLaunchCooperativeKernel(reinterpret_cast<const void*>(decode), dim3(blocks), dim3(kThreads), arguments, kScratchBytes,
                                     static_cast<cudaStream_t>(stream));
}
