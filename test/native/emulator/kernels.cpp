// The part of the CUDA runtime that knows kernels: attributes, occupancy and launches. The rest is cuda-host/runtime.cpp.
#include <cuda_runtime_api.h>

#include <map>
#include <mutex>

#include "cuda-host/runtime.h"
#include "launch.h"
#include "machine.h"

namespace emu {

using Bind = std::function<std::function<void()>(void**)>;

namespace {

constexpr size_t kUnasked = 48 << 10;  // dynamic shared memory that a kernel has without asking

struct Kernel {
  Bind bind;
  size_t most_shared = kUnasked;
};

std::mutex mutex;

std::map<const void*, Kernel>& kernels() {
  static std::map<const void*, Kernel> all;
  return all;
}

}  // namespace

void know(const void* kernel, Bind bind) {
  const std::lock_guard<std::mutex> lock(mutex);
  kernels()[kernel].bind = std::move(bind);
}

cudaError_t start(cudaStream_t stream, Launch launch) {
  on_stream(stream, [launch = std::move(launch)] {
    const std::string failure = run(launch);
    if (!failure.empty()) lose_device(failure);
  });
  return cudaSuccess;
}

}  // namespace emu

using emu::kernels;

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = emulated_machine.multiprocessors; return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = emulated_machine.shared_bytes; return cudaSuccess;
    case cudaDevAttrCooperativeLaunch: *value = 1; return cudaSuccess;
    default: return cudaErrorInvalidValue;
  }
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  const std::lock_guard<std::mutex> lock(emu::mutex);
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || value > emulated_machine.shared_bytes) return cudaErrorInvalidValue;
  kernels()[kernel].most_shared = size_t(value);
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* kernel, int threads, size_t shared_bytes) {
  const std::lock_guard<std::mutex> lock(emu::mutex);
  *blocks = threads >= 1 && threads <= 1024 && shared_bytes <= kernels()[kernel].most_shared;
  return cudaSuccess;
}

cudaError_t cudaLaunchCooperativeKernel(const void* kernel, dim3 grid, dim3 size, void** arguments, size_t shared_bytes, cudaStream_t stream) {
  emu::Bind bind;
  {
    const std::lock_guard<std::mutex> lock(emu::mutex);
    const auto known = kernels().find(kernel);
    if (known == kernels().end() || !known->second.bind) return cudaErrorInvalidDeviceFunction;
    if (shared_bytes > known->second.most_shared) return cudaErrorInvalidValue;
    bind = known->second.bind;
  }
  if (grid.x * grid.y * grid.z > unsigned(emulated_machine.multiprocessors)) return cudaErrorCooperativeLaunchTooLarge;
  return emu::start(stream, {{grid.x, grid.y, grid.z}, {size.x, size.y, size.z}, shared_bytes, bind(arguments)});
}

cudaError_t cudaLaunchKernel(const void* kernel, dim3 grid, dim3 size, void** arguments, size_t shared_bytes, cudaStream_t stream) {
  return cudaLaunchCooperativeKernel(kernel, grid, size, arguments, shared_bytes, stream);
}
