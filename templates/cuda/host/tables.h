// Tables that the host makes for the kernels.
#pragma once
#include <cmath>
#include <vector>

#include "model.h"
#include "noise.h"

/** Cosines and sines of all positions, as large as their pair's are: [context][kHeadDim / 2][2]. */
inline std::vector<float> rope_table(int context) {
  std::vector<float> table;
  table.reserve(size_t(context) * kHeadDim);
  for (int position = 0; position < context; ++position) {
    for (int i = 0; i < kHeadDim / 2; ++i) {
      const float angle = static_cast<float>(position) * kInvFreq[i];  // in float32, as transformers has it
      const float size = i < kRotatedPairs ? kRotatedSize : 1;
      table.push_back(static_cast<float>(std::cos(static_cast<double>(angle))) * size);
      table.push_back(static_cast<float>(std::sin(static_cast<double>(angle))) * size);
    }
  }
  return table;
}

/** What penalties count of each token before a reply to ids [n]: [kVocab]. */
inline std::vector<int> prompt_counts(const int32_t* ids, int64_t n) {
  std::vector<int> counts(kVocab);
  for (int64_t i = 0; i < n; ++i) counts[ids[i]] = kInPrompt;
  return counts;
}
