// What the host calls of the kernel's side beside calls.h; stream/launch.cuh defines it.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "model.h"

/** Of each row of logits, the tokens [vocab] without a bit in words [(vocab + 31) / 32] may not be chosen; null: all may. */
struct RowMasks {
  const unsigned* words[kPassTokens];
  int vocab[kPassTokens];
};
/** Starts choosing the token behind the last one of a pass, whose logits are the first row of pass.logits; of a batch that behind each row, whose
 *  logits are a row each. @param masked room for as many rows; null: none has a mask */
cudaError_t kernel_choose(const Pass& pass, const RowMasks& masks, float* masked, cudaStream_t stream);
/** Starts packing the matrices of one layer into the stream. */
cudaError_t kernel_pack(const char* matrices, char* to, int layer, cudaStream_t stream);
/** The same of rows [first, first + count) of the head, where `first` begins a tile. */
cudaError_t kernel_pack_head(const char* rows, char* to, int first, int count, cudaStream_t stream);
/** Bytes of the exchanges of a launch with so many tokens a pass: all ones at its start. */
int64_t kernel_word_bytes(int tokens);
