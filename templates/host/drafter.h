// Drafts: tokens that may come next, for one pass to check. Prompt lookup takes those that followed the same few tokens before.
#pragma once
#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <vector>

/** Kinds of drafts, of which those that are looked up come first, by how far their reasons go, weakest first: how often each kind is right is learned
 *  apart. */
constexpr int kDraftKinds = 6;
/** From here on a text repeats itself: nobody else drafts better. */
constexpr int kRepeats = 2;
/** The kind of what is expected by whoever masks a reply. */
constexpr int kExpectedDrafts = kDraftKinds - 1;
/** The kind of what a model drafts. */
constexpr int kModelDrafts = kDraftKinds;

struct Draft {
  std::vector<int32_t> tokens;
  int kind = 0;
};

class Drafter {
 public:
  virtual ~Drafter() = default;
  /** At most `most` tokens that may follow `known`; none where it has no idea. Within a reply, known grows by some tokens from call to call. */
  virtual Draft draft(const std::vector<int32_t>& known, int32_t most) = 0;
};

/** Finds the longest of `most` down to `least` last tokens among all before them, where they occurred last, and drafts what followed there. */
class PromptLookup : public Drafter {
 public:
  PromptLookup(int32_t most, int32_t least) : most_(most), least_(least) {}

  Draft draft(const std::vector<int32_t>& known, int32_t most) override {
    const auto end = static_cast<int32_t>(known.size());
    // The run that ends here is looked up, so it is not yet in the table.
    for (; indexed_ < end - 1; ++indexed_) {
      for (int32_t n = least_; n <= std::min(most_, indexed_ + 1); ++n) followers_[key(known, indexed_ + 1, n)] = indexed_ + 1;
    }
    Draft draft;
    for (int32_t n = std::min(most_, end); n >= least_; --n) {
      const auto found = followers_.find(key(known, end, n));
      if (found == followers_.end()) continue;
      const int32_t length = common(known, found->second, end);
      if (length < n) continue;  // another run of the same key
      for (int32_t at = found->second; static_cast<int32_t>(draft.tokens.size()) < most; ++at) {
        draft.tokens.push_back(at < end ? known[at] : draft.tokens[at - end]);  // a repetition goes on past the end
      }
      draft.kind = length >= 16 ? 4 : length >= 8 ? 3 : length >= 4 ? 2 : length >= 3 ? 1 : 0;
      break;
    }
    return draft;
  }

 private:
  /** Of the n tokens before `end`. */
  static uint64_t key(const std::vector<int32_t>& known, int32_t end, int32_t n) {
    uint64_t key = static_cast<uint64_t>(n);
    for (int32_t i = end - n; i < end; ++i) key = (key ^ static_cast<uint32_t>(known[i])) * 0x9e3779b97f4a7c15ull, key ^= key >> 29;
    return key;
  }

  /** Tokens before a that are those before b, at most 16. */
  static int32_t common(const std::vector<int32_t>& known, int32_t a, int32_t b) {
    int32_t length = 0;
    while (length < 16 && length < a && known[a - 1 - length] == known[b - 1 - length]) ++length;
    return length;
  }

  const int32_t most_, least_;
  std::unordered_map<uint64_t, int32_t> followers_;  // of the last occurrence of each run
  int32_t indexed_ = 0;                              // tokens whose runs are in the table
};
