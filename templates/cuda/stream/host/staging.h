// Matrices on their way into the stream: as many as are packed at once are on the GPU a second time.
#pragma once
#include <algorithm>

#include "device.h"
#include "scheme_base.h"
#include "stream_calls.h"

/** Takes the packed weights behind kKeptBytes, in their order: layer by layer, and a head that is not the embedding in parts as large. */
class Staging {
 public:
  static constexpr int64_t kBytes = std::max(kStagedLayerBytes, kStagedHeadBytes > 0 ? kRowTile * kHeadRowBytes : 0);

  SchemeBase::Place place(int64_t offset) {
    if (!memory_) memory_ = device_memory(kBytes);
    const Part part = part_of(offset);
    return {static_cast<char*>(memory_.get()) + (offset - part.begin), part.end - offset};
  }

  /** Once all up to `end` is written: packs the part of which that is the last. What is written then comes behind it in the order of the stream. */
  void written(int64_t end, char* to, cudaStream_t stream) {
    const Part part = part_of(end - 1);
    if (end < part.end) return;
    const char* const matrices = static_cast<const char*>(memory_.get());
    if (part.layer < kLayers) return check_cuda(kernel_pack(matrices, to, part.layer, stream), "kernel_pack");
    check_cuda(kernel_pack_head(matrices, to, part.row, std::min(kPartRows, kVocab - part.row), stream), "kernel_pack_head");
  }

  void release() { memory_.reset(); }

 private:
  static constexpr int kPartRows = static_cast<int>(kBytes / (kRowTile * kHeadRowBytes)) * kRowTile;

  /** Offsets of what is packed at once. */
  struct Part {
    int64_t begin, end;
    int layer;  // kLayers: the head
    int row;    // of it
  };
  static Part part_of(int64_t offset) {
    constexpr int64_t kHead = kKeptBytes + kLayers * kStagedLayerBytes, kPart = kPartRows * kHeadRowBytes;
    if (offset < kHead) {
      const int layer = static_cast<int>((offset - kKeptBytes) / kStagedLayerBytes);
      const int64_t begin = kKeptBytes + layer * kStagedLayerBytes;
      return {begin, begin + kStagedLayerBytes, layer, 0};
    }
    const int part = static_cast<int>((offset - kHead) / kPart);
    const int64_t begin = kHead + part * kPart;
    return {begin, std::min(begin + kPart, kWeightBytes), kLayers, part * kPartRows};
  }

  DeviceMemory memory_;  // [kBytes] of a part, row by row
};
