// What the choice of a token depends on, as hosts and kernels ask it.
#pragma once
#include "abi.h"  // Sampling
#include "noise.h"

/** Whether it reads the counts of a sequence. */
HOST_DEVICE bool has_penalties(const Sampling& s) { return s.repetition_penalty != 1 || s.presence_penalty != 0 || s.frequency_penalty != 0; }

/** Whether it is the largest logit as it is. @param bias what is added to the logits, null: nothing */
HOST_DEVICE bool is_greedy(const Sampling& s, const float* bias) { return !bias && !(s.temperature > 0) && !has_penalties(s); }

/** Whether the largest logit / temperature + noise has to be looked for among some of them. */
HOST_DEVICE bool is_filtered(const Sampling& s) {
  return s.temperature > 0 && ((s.top_k > 0 && (s.vocab <= 0 || s.top_k < s.vocab)) || s.top_p < 1 || s.min_p > 0);
}
