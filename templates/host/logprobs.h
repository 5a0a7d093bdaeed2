// Log probabilities of a token and of the most likely ones, from the logits that its pass has made.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>


/** The most that may be asked for beside the token itself. */
constexpr int32_t kMostTopLogprobs = 20;

struct TokenLogprob {
  int32_t token;
  float logprob;  // natural
};

namespace logprobs_lanes {

// Compilers make instructions of these for any processor, with few flags too.
constexpr int kLanes = 4;
typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));

/** exp(x) in each lane, within 3e-7 of it; x from -87 to 0, below that exp(-87). */
inline Floats exp(Floats x) {
  x = x > -87.0f ? x : Floats{} - 87.0f;
  const Ints n = __builtin_convertvector(x * 1.44269504f - 0.5f, Ints);  // nearest, since x <= 0
  const Floats whole = __builtin_convertvector(n, Floats);
  const Floats r = (x - whole * 0.693145752f) - whole * 1.42860677e-6f;
  Floats sum = Floats{} + 1.0f / 720;
  for (const float next : {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) sum = sum * r + next;
  const Ints power = (n + 127) << 23;
  Floats scale;
  std::memcpy(&scale, &power, sizeof scale);
  return sum * scale;
}

}  // namespace logprobs_lanes

/** Logits [vocab] of a row, read a block at a time: the largest of each block, of all, and the logarithm of the sum of their exponentials. */
class LogitsRow {
 public:
  static constexpr int32_t kBlock = 64;  // logits: few enough that their sum in floats is as exact as one of them

  LogitsRow(const float* logits, int32_t vocab) : logits_(logits), whole_(vocab / kBlock) {
    std::fill(last_, last_ + kBlock, std::numeric_limits<float>::lowest());
    std::copy(logits + int64_t{whole_} * kBlock, logits + vocab, last_);
    const int32_t blocks = (vocab + kBlock - 1) / kBlock;
    for (int32_t block = 0; block < blocks; ++block) block_largest_.push_back(largest_of(block));
    const float largest = *std::max_element(block_largest_.begin(), block_largest_.end());
    double sum = 0;
    for (int32_t block = 0; block < blocks; ++block) sum += sum_of(block, largest);
    log_sum_ = largest + std::log(sum);
  }

  float logprob(int32_t token) const { return static_cast<float>(logits_[token] - log_sum_); }

  /** Of tokens below `known` the `most` most likely, from the most likely on; of equals the lowest id comes first. */
  std::vector<int32_t> best(int32_t known, int32_t most) const {
    std::vector<int32_t> best;  // by rank
    const auto full = [&] { return static_cast<int32_t>(best.size()) == most; };
    for (int32_t first = 0; most > 0 && first < known; first += kBlock) {
      if (full() && !(block_largest_[first / kBlock] > logits_[best.back()])) continue;
      for (int32_t id = first; id < std::min(known, first + kBlock); ++id) {
        if (full() && !(logits_[id] > logits_[best.back()])) continue;
        if (full()) best.pop_back();
        const auto behind = std::upper_bound(best.begin(), best.end(), logits_[id], [&](float logit, int32_t other) { return logit > logits_[other]; });
        best.insert(behind, id);
      }
    }
    return best;
  }

 private:
  using Floats = logprobs_lanes::Floats;
  static constexpr int kLanes = logprobs_lanes::kLanes;

  /** Logits [kBlock]; behind those of the last block lie some that weigh nothing. */
  const float* at(int32_t block) const { return block < whole_ ? logits_ + int64_t{block} * kBlock : last_; }

  template <class Each>
  void each_lanes(int32_t block, Each&& each) const {
    const float* const from = at(block);
    for (int i = 0; i < kBlock; i += kLanes) {
      Floats lanes;
      std::memcpy(&lanes, from + i, sizeof lanes);
      each(lanes);
    }
  }

  float largest_of(int32_t block) const {
    Floats most = Floats{} + std::numeric_limits<float>::lowest();
    each_lanes(block, [&](const Floats& lanes) { most = lanes > most ? lanes : most; });
    float largest = most[0];
    for (int i = 1; i < kLanes; ++i) largest = std::max(largest, most[i]);
    return largest;
  }

  double sum_of(int32_t block, float largest) const {
    Floats sums{};
    each_lanes(block, [&](const Floats& lanes) { sums += logprobs_lanes::exp(lanes - largest); });
    double sum = 0;
    for (int i = 0; i < kLanes; ++i) sum += sums[i];
    return sum;
  }

  const float* const logits_;
  const int32_t whole_;  // blocks
  float last_[kBlock];
  std::vector<float> block_largest_;
  double log_sum_ = 0;
};

/** Those of `token` and, from the most likely on, of `top` tokens below `known`, by the softmax of finite logits [vocab]. */
inline std::vector<TokenLogprob> logprobs_of(const float* logits, int32_t vocab, int32_t known, int32_t token, int32_t top) {
  const LogitsRow row(logits, vocab);
  std::vector<TokenLogprob> found{{token, row.logprob(token)}};
  for (const int32_t id : row.best(known, top)) found.push_back({id, row.logprob(id)});
  return found;
}
