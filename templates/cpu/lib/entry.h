// What a kernel and the backend know of each other, whatever the model: backend.cpp is one object for all of them.
#pragma once
#include <stdint.h>

#include "abi.h"

struct Block;

/** A pass as the backend has it: `Pass` of model.h, its cache as bytes and its buffers as one allocation. */
struct Call {
  int tokens;
  int position;
  int first_logits;
  int sample;
  int context;
  Sampling sampling;
  const int* ids;
  int* next;
  int* counts;
  const char* weights;
  char* cache;  // of the sequence, or of slot 0
  const float* rope;
  float* logits;
  char* activations;  // [activation_bytes]
};

/** A kernel for one instruction set, and what of its model decides how memory is laid out. */
struct Kernel {
  void (*run)(const Call& call, Block& b);
  int64_t cache_heads;       // of all layers
  int64_t position_bytes;    // of a head: a key and a value
  int64_t activation_bytes;  // buffers of a pass, logits apart
  int64_t scratch_bytes;     // of a block
  const float* inv_freq;     // [head_dim / 2] rotary frequencies
  int32_t head_dim;
  int32_t splits;
  int32_t rotated_pairs;  // of a head, the first ones
  float rotated_size;     // how many times as large their cosines and sines are
};
