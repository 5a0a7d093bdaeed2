// One token of a pass in which each token belongs to a sequence of its own.
#pragma once
#include <cstdint>

#include "abi.h"  // Sampling

struct Row {
  int32_t slot;  // of its sequence
  int32_t position;
  const Sampling* sampling;
  const float* bias = nullptr;  // [kVocab] for the backend to fill in; null: none
};
