// The smallest model.h that templates/cpu/backend.cpp needs.
#pragma once
#include "abi.h"
#include "lib/types.h"

using Matrix = bf16;
using Cache = bf16;
constexpr int kLayers = 20000, kKvHeads = 3, kHeadDim = 4, kGroup = 2, kSplits = 1, kVocab = 50, kPassTokens = 8, kScratchFloats = 64;
constexpr int64_t kWeightBytes = 1000, kActivationBytes = 256;

struct Pass {
  int tokens, position, first_logits, sample, context;
  Sampling sampling;
  const int* ids;
  int* next;
  int* counts;
  const float* bias;
  const char* weights;
  Cache* cache;
  const float* rope;
  float* logits;
  unsigned* barrier;
  float* x;
};

inline void bind_activations(Pass& pass, char* base) { pass.x = reinterpret_cast<float*>(base); }
