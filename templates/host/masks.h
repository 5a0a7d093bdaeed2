// Which tokens a reply may choose next: its caller says so before each, and whoever computes the token waits for that.
#pragma once
#include <chrono>
#include <cstdint>
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

/** The mask of a reply's next token. Whoever has one keeps it under a lock. */
class NextMask {
 public:
  NextMask() = default;
  /** Of a reply that begins. @param masked it waits for masks, for tokens below `vocab` */
  NextMask(bool masked, int32_t vocab) : masked_(masked), vocab_(vocab) {}

  void give(const void* words, int32_t count) {
    if (!masked_) fail(kStatusBadArgument, "the reply waits for no masks");
    if (given_) fail(kStatusBusy, "the next token has its mask already");
    words_ = copy_mask(words, count, vocab_);
    given_ = true;
  }

  /** Whether the next token can be chosen. */
  bool ready() const { return !masked_ || given_; }

  MaskWords take() {
    given_ = false;
    return std::exchange(words_, {});
  }

 private:
  bool masked_ = false;
  int32_t vocab_ = 0;
  bool given_ = false;
  MaskWords words_;
};
