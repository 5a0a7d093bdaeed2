// A GPU as the host sees it, for every backend: checked calls, one allocation, uploads through pinned memory, what all plans copy alike.
#pragma once
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "host/backend.h"
#include "model.h"

constexpr int64_t kStageBytes = 16 << 20;
constexpr int64_t kAlignment = 256;

inline bool failed(cudaError_t status, const char* call, std::string* error) {
  if (status == cudaSuccess) return false;
  *error = std::string(call) + ": " + cudaGetErrorString(status) + " (" + cudaGetErrorName(status) + ")";
  return true;
}

#define CUDA_TRY(call)                                                                        \
  if (const cudaError_t status = (call); failed(status, #call, error))                        \
    return status == cudaErrorMemoryAllocation ? kStatusOutOfMemory : kStatusDevice

inline std::string gibibytes(int64_t bytes) {
  char text[32];
  snprintf(text, sizeof text, "%.2f GiB", static_cast<double>(bytes) / (1 << 30));
  return text;
}

inline int64_t rounded(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

/** What every backend has of a GPU. */
struct Device {
  int device = 0;
  std::string name;
  cudaStream_t stream = nullptr;
  char* memory = nullptr;  // everything that stays on the device, one allocation

  char* stage[2] = {};  // pinned, kStageBytes each
  cudaEvent_t staged[2] = {};
  int turn = 0;
};

/** Pieces of one allocation, each at a multiple of kAlignment. */
struct Arena {
  char* at;

  template <class T>
  T* take(int64_t bytes) {
    char* const piece = at;
    at += rounded(bytes);
    return reinterpret_cast<T*>(piece);
  }
};

/** Makes the GPU that was asked for the current one. */
inline int choose_device(Device& d, const EngineOptions& options, std::string* error) {
  int devices = 0;
  if (failed(cudaGetDeviceCount(&devices), "cudaGetDeviceCount", error)) return kStatusDevice;
  if (options.device < 0 || options.device >= devices) {
    *error = "GPU " + std::to_string(options.device) + " was asked for; this machine has " + std::to_string(devices);
    return kStatusDevice;
  }
  d.device = options.device;
  CUDA_TRY(cudaSetDevice(d.device));
  cudaDeviceProp properties;
  CUDA_TRY(cudaGetDeviceProperties(&properties, d.device));
  d.name = properties.name;
  return kStatusOk;
}

/** Allocates `total` zeroed bytes, and the pinned memory of uploads. */
inline int allocate_device(Device& d, int64_t total, std::string* error) {
  CUDA_TRY(cudaMalloc(reinterpret_cast<void**>(&d.memory), total));
  CUDA_TRY(cudaMemsetAsync(d.memory, 0, total, d.stream));
  for (int i = 0; i < 2; ++i) {
    CUDA_TRY(cudaMallocHost(reinterpret_cast<void**>(&d.stage[i]), kStageBytes));
    CUDA_TRY(cudaEventCreateWithFlags(&d.staged[i], cudaEventDisableTiming));
  }
  return kStatusOk;
}

/** Frees all of it. Nothing runs on the stream any more. */
inline void release_device(Device& d) {
  for (int i = 0; i < 2; ++i) {
    cudaFreeHost(d.stage[i]);
    if (d.staged[i]) cudaEventDestroy(d.staged[i]);
  }
  cudaFree(d.memory);
  if (d.stream) cudaStreamDestroy(d.stream);
}

/** Copies at most kStageBytes; `from` may be reused on return. */
inline int upload(Device& d, char* to, const char* from, int64_t bytes, std::string* error) {
  const int turn = d.turn;
  d.turn ^= 1;
  CUDA_TRY(cudaEventSynchronize(d.staged[turn]));
  memcpy(d.stage[turn], from, bytes);
  CUDA_TRY(cudaMemcpyAsync(to, d.stage[turn], bytes, cudaMemcpyHostToDevice, d.stream));
  CUDA_TRY(cudaEventRecord(d.staged[turn], d.stream));
  return kStatusOk;
}

/** Cosines and sines of all positions: [context][kHeadDim / 2][2]. */
inline int upload_rope(Device& d, float* rope, int context, std::string* error) {
  std::vector<float> rows(static_cast<size_t>(context) * kHeadDim);
  for (int position = 0; position < context; ++position) {
    for (int i = 0; i < kHeadDim / 2; ++i) {
      const float angle = static_cast<float>(position) * kInvFreq[i];
      rows[static_cast<size_t>(position) * kHeadDim + 2 * i] = static_cast<float>(std::cos(static_cast<double>(angle)));
      rows[static_cast<size_t>(position) * kHeadDim + 2 * i + 1] = static_cast<float>(std::sin(static_cast<double>(angle)));
    }
  }
  CUDA_TRY(cudaMemcpyAsync(rope, rows.data(), rows.size() * sizeof(float), cudaMemcpyHostToDevice, d.stream));
  CUDA_TRY(cudaStreamSynchronize(d.stream));
  return kStatusOk;
}

/** How often each token occurs in ids [n]: into counts [kVocab]. */
inline int upload_counts(Device& d, int* counts, const int32_t* ids, int64_t n, std::string* error) {
  CUDA_TRY(cudaSetDevice(d.device));
  std::vector<int> occurred(kVocab);
  for (int64_t i = 0; i < n; ++i) ++occurred[ids[i]];
  CUDA_TRY(cudaMemcpyAsync(counts, occurred.data(), sizeof(int) * kVocab, cudaMemcpyHostToDevice, d.stream));
  CUDA_TRY(cudaStreamSynchronize(d.stream));
  return kStatusOk;
}

/** Rows [row, row + rows) of the `made` rows of logits [made][kVocab]. */
inline int download_logits(Device& d, const float* logits, int made, int32_t row, int32_t rows, float* out, std::string* error) {
  if (row < 0 || rows < 0 || row > made - rows) {
    *error = "rows [" + std::to_string(row) + ", " + std::to_string(row + rows) + ") of logits were asked for; the last pass made " +
             std::to_string(made);
    return kStatusBadArgument;
  }
  const float* const from = logits + static_cast<int64_t>(row) * kVocab;
  CUDA_TRY(cudaMemcpyAsync(out, from, sizeof(float) * static_cast<int64_t>(rows) * kVocab, cudaMemcpyDeviceToHost, d.stream));
  CUDA_TRY(cudaStreamSynchronize(d.stream));
  return kStatusOk;
}
