// From the host to the GPU: bytes of any number by way of pinned memory, and the few integers that a launch reads.
#pragma once
#include <algorithm>
#include <cstring>

#include "arena.h"
#include "backend.h"
#include "device.h"

constexpr int64_t kStageBytes = 16 << 20;

/** Two pinned stages: one is filled while the other is copied. */
class Uploads {
 public:
  void bind(Arena& pinned) {
    for (Stage& stage : stages_) stage.memory = pinned.take<char>(kStageBytes);
  }

  /** Copies bytes in the order of the stream; `from` may be reused on return. */
  void copy(void* to, const void* from, int64_t bytes, cudaStream_t stream) {
    for (int64_t at = 0; at < bytes; at += kStageBytes) {
      Stage& stage = stages_[turn_ ^= 1];
      const int64_t piece = std::min(kStageBytes, bytes - at);
      CUDA(cudaEventSynchronize(stage.copied.get()));
      memcpy(stage.memory, static_cast<const char*>(from) + at, piece);
      CUDA(cudaMemcpyAsync(static_cast<char*>(to) + at, stage.memory, piece, cudaMemcpyHostToDevice, stream));
      CUDA(cudaEventRecord(stage.copied.get(), stream));
    }
  }

 private:
  struct Stage {
    char* memory = nullptr;  // [kStageBytes]
    Event copied = make_event();
  };
  Stage stages_[2];
  int turn_ = 0;
};

/** Integers for each of the launches that may be outstanding. */
class LaunchInts {
 public:
  void bind(Arena& device, Arena& pinned, int size) {
    size_ = size;
    device_ = device.take<int>(int64_t{kMaxOutstanding} * size);
    pinned_ = pinned.take<int>(int64_t{kMaxOutstanding} * size);
  }

  /** Sends from [count] to the launch of a slot, which finds zeros after them: where they are on the GPU. */
  const int* send(int slot, const int32_t* from, int count, cudaStream_t stream) {
    int* const to = device_ + int64_t{slot} * size_;
    int* const by = pinned_ + int64_t{slot} * size_;
    std::fill(std::copy_n(from, count, by), by + size_, 0);
    CUDA(cudaMemcpyAsync(to, by, sizeof(int) * size_, cudaMemcpyHostToDevice, stream));
    return to;
  }

 private:
  int size_ = 0;
  int* device_ = nullptr;  // [kMaxOutstanding][size_]
  int* pinned_ = nullptr;  // the same
};
