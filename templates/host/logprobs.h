// Log probabilities of a token and of the most likely ones, from the logits that its pass has made.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

/** The most that may be asked for beside the token itself. */
constexpr int32_t kMostTopLogprobs = 20;

struct TokenLogprob {
  int32_t token;
  float logprob;  // natural
};

/** Those of `token` and, from the most likely on, of `top` tokens below `known`, by the softmax of finite logits [vocab]; of equals the lowest
 *  id comes first. */
inline std::vector<TokenLogprob> logprobs_of(const float* logits, int32_t vocab, int32_t known, int32_t token, int32_t top) {
  std::vector<int32_t> best;  // by rank
  for (int32_t id = 0; id < known && top > 0; ++id) {
    const bool full = static_cast<int32_t>(best.size()) == top;
    if (full && !(logits[id] > logits[best.back()])) continue;
    if (full) best.pop_back();
    const auto behind = std::upper_bound(best.begin(), best.end(), logits[id], [&](float logit, int32_t other) { return logit > logits[other]; });
    best.insert(behind, id);
  }
  const double largest = *std::max_element(logits, logits + vocab);
  double sum = 0;
  for (int32_t id = 0; id < vocab; ++id) sum += std::exp(logits[id] - largest);
  const double total = largest + std::log(sum);
  best.insert(best.begin(), token);
  std::vector<TokenLogprob> found;
  for (const int32_t id : best) found.push_back({id, static_cast<float>(logits[id] - total)});
  return found;
}
