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

namespace exponentials {

/** Numbers of a block: few enough that their sum in floats is as exact as one of them. */
constexpr int kBlock = 64;
constexpr int kLanes = 8;
// Compilers make instructions of these for any processor, with few flags too.
typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));

/** Sum of exp(x - largest) of blocks [blocks][kBlock]; each within 3e-7 of it, and of a large negative x what exp(-87) is. */
inline __attribute__((always_inline)) double sum_of(const float* x, int64_t blocks, float largest) {
  double total = 0;
  for (int64_t block = 0; block < blocks; ++block) {
    Floats sums{};
    for (int i = 0; i < kBlock; i += kLanes) {
      Floats at;
      std::memcpy(&at, x + block * kBlock + i, sizeof at);
      at -= largest;
      at = at > -87.0f ? at : Floats{} - 87.0f;
      const Ints n = __builtin_convertvector(at * 1.44269504f - 0.5f, Ints);  // the nearest, since they are not positive
      const Floats whole = __builtin_convertvector(n, Floats);
      const Floats r = (at - whole * 0.693145752f) - whole * 1.42860677e-6f;
      Floats power = r * (1.0f / 720) + 1.0f / 120;
      power = power * r + 1.0f / 24;
      power = power * r + 1.0f / 6;
      power = power * r + 0.5f;
      power = power * r + 1.0f;
      power = power * r + 1.0f;
      const Ints exponent = (n + 127) << 23;
      Floats scale;
      std::memcpy(&scale, &exponent, sizeof scale);
      sums += power * scale;
    }
    for (int i = 0; i < kLanes; ++i) total += sums[i];
  }
  return total;
}

/** The largest of a block. */
inline __attribute__((always_inline)) float largest_of(const float* x) {
  Floats most;
  std::memcpy(&most, x, sizeof most);
  for (int i = kLanes; i < kBlock; i += kLanes) {
    Floats at;
    std::memcpy(&at, x + i, sizeof at);
    most = at > most ? at : most;
  }
  float largest = most[0];
  for (int i = 1; i < kLanes; ++i) largest = std::max(largest, most[i]);
  return largest;
}

/** Largest of each block, and the logarithm of the sum of all exponentials. */
inline __attribute__((always_inline)) double log_sum_of(const float* x, int64_t blocks, const float* last, float* block_largest) {
  for (int64_t block = 0; block < blocks; ++block) block_largest[block] = largest_of(x + block * kBlock);
  block_largest[blocks] = largest_of(last);
  const float largest = *std::max_element(block_largest, block_largest + blocks + 1);
  return largest + std::log(sum_of(x, blocks, largest) + sum_of(last, 1, largest));
}

#if defined(__x86_64__)
// Files of the host are compiled for any processor; a vocabulary is worth the question which one this is.
__attribute__((target("avx2,fma"))) inline double log_sum_avx2(const float* x, int64_t blocks, const float* last, float* block_largest) {
  return log_sum_of(x, blocks, last, block_largest);
}
#endif

inline double log_sum(const float* x, int64_t blocks, const float* last, float* block_largest) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return log_sum_avx2(x, blocks, last, block_largest);
#endif
  return log_sum_of(x, blocks, last, block_largest);
}

}  // namespace exponentials

/** Logits [vocab] of a row: the largest of each block, and the logarithm of the sum of their exponentials. */
class LogitsRow {
 public:
  static constexpr int32_t kBlock = exponentials::kBlock;

  LogitsRow(const float* logits, int32_t vocab) : logits_(logits), block_largest_(vocab / kBlock + 1) {
    float last[kBlock];  // behind the others lie some that weigh nothing
    const int64_t whole = vocab / kBlock;
    std::fill(std::copy(logits + whole * kBlock, logits + vocab, last), last + kBlock, std::numeric_limits<float>::lowest());
    log_sum_ = exponentials::log_sum(logits, whole, last, block_largest_.data());
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
  const float* const logits_;
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
