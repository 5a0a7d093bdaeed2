// What a reply is made with, as the thread has it.
#pragma once
#include <cstdint>
#include <vector>

#include "abi.h"

struct SpeculationOptions {
  int32_t draft_tokens;  // most of a pass; 0: none, -1: as many as pay
  int32_t draft_ngram;   // most tokens that are looked up
};

struct GenerateJob {
  std::vector<int32_t> prompt;
  int32_t max_tokens;
  std::vector<int32_t> stop_ids;
  Sampling sampling;
  SpeculationOptions speculation;
  std::vector<int32_t> bias_ids;
  std::vector<float> biases;  // of bias_ids
  int32_t top_logprobs;       // -1: no log probabilities
  bool masked;                // each token waits for its mask

  bool wants_logprobs() const { return top_logprobs >= 0; }
};
