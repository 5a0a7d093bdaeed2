// The functions of host/calls.h; included after the kernel `decode`.
#pragma once
#include <cuda_runtime.h>

#include "host/calls.h"
#include "mask.cuh"

static_assert(kScratchFloats >= 0 && sizeof(Pass) <= 4096, "the pass is the kernel's argument");

namespace {
constexpr size_t kScratchBytes = size_t(kScratchFloats) * sizeof(float) + kRingBytes;
}

// One block a multiprocessor, and no more than the plan has.
cudaError_t kernel_blocks(int gpu, int* blocks) {
  *blocks = 0;
  int multiprocessors = 0, fitting = 0;
  const void* const kernel = reinterpret_cast<const void*>(decode);
  cudaError_t status = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, gpu);
  if (status == cudaSuccess)
    status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(kScratchBytes));
  if (status == cudaSuccess) status = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&fitting, kernel, kThreads, kScratchBytes);
  if (status == cudaSuccess && fitting > 0) *blocks = kMostBlocks > 0 && kMostBlocks < multiprocessors ? kMostBlocks : multiprocessors;
  return status;
}

cudaError_t kernel_launch(const Pass& pass, int blocks, cudaStream_t stream) {
  void* arguments[] = {const_cast<Pass*>(&pass)};
  return cudaLaunchCooperativeKernel(reinterpret_cast<const void*>(decode), dim3(blocks), dim3(kThreads), arguments, kScratchBytes, stream);
}
