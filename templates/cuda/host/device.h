// A GPU as the host sees it: every call of CUDA is checked, and what CUDA gave has an owner that gives it back.
#pragma once
#include <cuda_runtime_api.h>

#include <memory>
#include <string>

#include "errors.h"

/** Throws what a call said, with its name, unless it succeeded. */
inline void check_cuda(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  throw Failure{status == cudaErrorMemoryAllocation ? kStatusOutOfMemory : kStatusDevice,
                std::string(call) + ": " + cudaGetErrorString(status) + " (" + cudaGetErrorName(status) + ")"};
}

#define CUDA(call) check_cuda(call, #call)

template <auto Release>
struct Releases {
  template <class T>
  void operator()(T* owned) const {
    Release(owned);
  }
};

using DeviceMemory = std::unique_ptr<void, Releases<cudaFree>>;
using PinnedMemory = std::unique_ptr<void, Releases<cudaFreeHost>>;
using Stream = std::unique_ptr<CUstream_st, Releases<cudaStreamDestroy>>;
using Event = std::unique_ptr<CUevent_st, Releases<cudaEventDestroy>>;

inline DeviceMemory device_memory(int64_t bytes) {
  void* memory = nullptr;
  CUDA(cudaMalloc(&memory, bytes));
  return DeviceMemory(memory);
}

/** Memory of the host that the GPU reads and writes. */
inline PinnedMemory pinned_memory(int64_t bytes) {
  void* memory = nullptr;
  CUDA(cudaMallocHost(&memory, bytes));
  return PinnedMemory(memory);
}

inline Stream make_stream() {
  cudaStream_t stream = nullptr;
  CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return Stream(stream);
}

inline Event make_event() {
  cudaEvent_t event = nullptr;
  CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return Event(event);
}

struct Gpu {
  int index;
  std::string name;
};

/** Makes a GPU the current one of this thread. */
inline Gpu choose_gpu(int index) {
  int count = 0;
  CUDA(cudaGetDeviceCount(&count));
  if (index < 0 || index >= count) fail(kStatusDevice, "GPU %d was asked for; this machine has %d", index, count);
  CUDA(cudaSetDevice(index));
  cudaDeviceProp properties;
  CUDA(cudaGetDeviceProperties(&properties, index));
  return {index, properties.name};
}
