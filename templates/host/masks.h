// Which tokens a reply may choose next: its caller says so before each, or ahead for tokens that it expects, and whoever computes the token waits for
// that.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "errors.h"

/** A bit for each token; none at all: any token. */
using MaskWords = std::vector<uint32_t>;

/** For how long masks are waited for before somebody looks whether their pass is over. */
constexpr std::chrono::microseconds kMaskLook{100};

/** A copy of a caller's words, for tokens below `vocab`. Throws where they are too few or too many, or allow no token. */
inline MaskWords copy_mask(const void* words, int32_t count, int32_t vocab) {
  if (count == 0) return {};
  const int32_t wanted = (vocab + 31) / 32;
  if (words == nullptr || count != wanted) fail(kStatusBadArgument, "the mask has %d words; %d tokens are %d", count, vocab, wanted);
  const auto* const first = static_cast<const uint32_t*>(words);
  MaskWords copy(first, first + count);
  if (vocab % 32 != 0) copy.back() &= (1u << vocab % 32) - 1;
  for (const uint32_t word : copy) {
    if (word != 0) return copy;
  }
  fail(kStatusBadArgument, "the mask allows no token");
}

/** A token that is expected, and what may be chosen behind it. */
struct Expected {
  int32_t token;
  MaskWords behind;
};

/** A copy of tokens [count] that a caller expects, and of the words behind each, [count][width]. */
inline std::deque<Expected> copy_expected(const int32_t* tokens, int32_t count, const void* words, int32_t width, int32_t vocab) {
  if (count > 0 && tokens == nullptr) fail(kStatusBadArgument, "tokens is null");
  std::deque<Expected> copy;
  for (int32_t i = 0; i < count; ++i) {
    if (tokens[i] < 0 || tokens[i] >= vocab) fail(kStatusBadArgument, "token %d is expected, and there are %d", tokens[i], vocab);
    copy.push_back({tokens[i], copy_mask(words ? static_cast<const uint32_t*>(words) + int64_t{i} * width : nullptr, width, vocab)});
  }
  return copy;
}

/** The masks of a reply: that of its next token, and those behind tokens that are expected. Whoever has one keeps it under a lock. */
class Masks {
 public:
  Masks() = default;
  /** Of a reply that begins. @param masked it waits for masks, for tokens below `vocab` */
  Masks(bool masked, int32_t vocab) : masked_(masked), vocab_(vocab) {}

  /** @param expects what is expected behind it is told next */
  void give(const void* words, int32_t count, bool expects) {
    if (!masked_) fail(kStatusBadArgument, "the reply waits for no masks");
    if (given_ || expects_) fail(kStatusBusy, "the next token has its mask already");
    words_ = copy_mask(words, count, vocab_);
    given_ = true;
    expects_ = expects;
  }

  void expect(const int32_t* tokens, int32_t count, const void* words, int32_t width) {
    if (!expects_) fail(kStatusBadArgument, "nothing was to be expected");
    expected_ = copy_expected(tokens, count, words, width, vocab_);
    expects_ = false;
    if (unseen_) follow(*std::exchange(unseen_, std::nullopt));
  }

  /** Whether the next token can be chosen. */
  bool ready() const { return !masked_ || given_; }

  /** Whether it is still to be told what is expected. */
  bool expects() const { return expects_; }

  MaskWords take() {
    given_ = false;
    return std::exchange(words_, {});
  }

  /** The token that was chosen by the mask taken last. Where it was expected, the next one has its mask. */
  void chose(int32_t token) {
    if (!masked_) return;
    if (expects_) unseen_ = token;
    else follow(token);
  }

  /** What is expected of the next token on, up to `most` tokens. Stays. */
  std::vector<Expected> expected(int32_t most) const {
    return {expected_.begin(), expected_.begin() + std::clamp<std::ptrdiff_t>(most, 0, static_cast<std::ptrdiff_t>(expected_.size()))};
  }

 private:
  void follow(int32_t token) {
    if (expected_.empty() || expected_.front().token != token) return expected_.clear();
    words_ = std::move(expected_.front().behind);
    expected_.pop_front();
    given_ = true;
  }

  bool masked_ = false;
  int32_t vocab_ = 0;
  bool given_ = false, expects_ = false;
  MaskWords words_;
  std::deque<Expected> expected_;    // behind the token of words_
  std::optional<int32_t> unseen_;    // was chosen before it was told what is expected
};
