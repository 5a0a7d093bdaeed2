// What the host code is told of the model when it runs, so that library.cpp is one object for all models.
#pragma once
#include <cstdint>

/** Where a tensor of the checkpoint goes in the packed weights. */
struct WeightSlot {
  int32_t rows, cols;
  int64_t offset;  // bytes
  int64_t stride;  // elements from row to row
  int32_t dtype;   // 0 bf16, 1 fp16, 2 fp32, 4 q8_0, 5 q4_0, 6 q4_1, 19 f8_block
  // Of heads that are rotated in part; 0: rows lie as in the checkpoint.
  int32_t head_rows = 0, rotated_rows = 0;
};

struct ModelFacts {
  int32_t vocab;        // rows of the LM head
  int32_t pass_tokens;  // most tokens of a pass
  int64_t weight_bytes;
  const char* hash;
  const WeightSlot* slots;
  int32_t slot_count;
};

/** Of this library: model.cpp. */
extern const ModelFacts kModel;
