// A backend without a model, for tests of the host code: what its devices can do, and what one pass of it makes. The next token is a hash of all tokens
// fed so far. Where a reply samples with top_k, text repeats after so many tokens, but for a share min_p of them.
#pragma once
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <limits>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "backend.h"
#include "drafter.h"
#include "model_facts.h"
#include "sizes.h"

/** What a device can do. */
struct Device {
  int32_t steps;          // of a request
  int32_t prompt_tokens;  // of a request, beyond those of a pass; 0: it has no launches of prompts
  bool prompt_logits;     // a launch of prompts can make logits
  int32_t drafts;         // tokens that are checked together; 0: none are
  bool fewer_drafts;      // at some positions than at others
  int32_t rows;           // of several sequences
  bool asks;              // for the masks of a pass in front of its choice
  bool keeps;             // a row of logits while other passes run
};

/** By number; there are no others. Device 0 shares its memory with the host and runs a pass when it is waited for, as the CPU target does; the others
 *  take copies and run passes on a thread of their own, as a GPU does. */
constexpr Device kDevices[] = {
    {1, 0, true, kPassTokens, false, kPassTokens, true, false},   // 0
    {1, 0, true, kPassTokens, false, kPassTokens, false, false},  // 1
    {64, 0, true, 0, false, 1, false, true},                     // 2
    {1, 64, true, 0, false, 1, false, true},                      // 3
    {64, 0, true, kPassTokens, true, kPassTokens, false, true},  // 4
    {1, 64, false, 0, false, 1, false, false},                     // 5
    {1, 0, true, 0, false, kPassTokens, true, true},             // 6
    {1, 0, true, kPassTokens, true, kPassTokens, true, true},    // 7
    {1, 0, true, 0, false, 3 * kPassTokens, false, true},        // 8
};

// Tokens below kOrdinary are sampled; feeding one of these makes its pass misbehave.
constexpr int kOrdinary = 256;
constexpr int kFailToken = 500;    // the pass fails in a stage
constexpr int kSlowToken = 501;    // this pass and all after it take 20 ms, and 4 for each draft; one that asks for its masks as long to enqueue
constexpr int kRogueToken = 502;   // samples a token outside the vocabulary
constexpr int kRefuseToken = 503;  // the pass cannot be enqueued
constexpr int kThrowToken = 504;   // the backend throws
constexpr int kNanToken = 505;     // the logits of this token hold a NaN
constexpr int kDearToken = 506;    // as the slow one, and 48 ms for each draft

struct Request {
  PassRequest pass;
  std::vector<int32_t> ids;
  std::vector<int32_t> stop_ids;
  Sampling sampling;
  std::vector<Row> rows;
  std::vector<Sampling> row_sampling;
};

/** Drafts what is always wrong, or two right tokens and a wrong one of a text that repeats after five. */
struct FakeDrafter : Drafter {
  enum Kind { kNone, kGarbage, kHalf };
  Kind kind = kNone;
  Draft draft(const std::vector<int32_t>& known, int32_t most) override;
};

/** A request that was not waited for. */
struct Outstanding {
  int32_t steps;  // not yet waited for
  std::function<bool()> answered, question;  // which is still to be asked
  bool chooses = true;
  std::exception_ptr failure = nullptr;  // of its question
};

struct Result {
  int32_t token;
  int status;
  std::string error;
  bool throws;
  std::vector<int32_t> chosen;
  std::vector<float> kept = {};  // its row of logits, where that is asked for and the device keeps it
};

struct Backend {
  EngineOptions options;
  Device can;
  std::thread::id owner;
  std::vector<char> weights;
  std::vector<uint32_t> hashes;  // [sequences][context]: the hash after every position, the stand-in for a KV cache
  std::vector<char> slow;        // [sequences][context]: for each draft [ms], 0: none are; bytes, since positions of several sequences are touched at a time
  std::vector<int32_t> counts;   // [sequences][kVocab]
  std::vector<float> kept;       // of the pass that was waited for last
  std::vector<int32_t> forced;   // [sequences] the token with the largest bias; -1: there are none
  std::vector<std::vector<bool>> masks;  // [sequences + drafts][kVocab] tokens that may be chosen; empty: all may. Of sequences, then behind drafts
  std::vector<float> logits;     // [most tokens of a request][kVocab], row 0 of token first_logits
  std::vector<int32_t> sampled;  // [sequences] the token chosen last
  std::vector<int32_t> chosen;  // by the step waited for last
  FakeDrafter drafter;
  int most_outstanding = 0;
  int requests_taken = 0;
  int passes_run = 0;
  int most_rows = 0;
  int chunks = 0;
  int steps_waited = 0;
  int times_counted = 0;  // that counts were given

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Request> requests;
  std::deque<Result> results;      // one a step
  std::deque<Outstanding> outstanding;
  bool asks = false;              // the pass that runs has its logits, and waits for an answer
  std::optional<bool> answer;
  std::atomic<bool> stop{false};    // ends what is outstanding
  bool quit = false;
  std::thread device;
};

constexpr int kAnyNumber = -1;
inline std::mutex allowed_mutex;
inline std::condition_variable allowed_more;
inline int allowed = kAnyNumber;  // passes that may run; then they wait, until what is outstanding is asked to stop or more are allowed

inline void allow(int passes) {
  std::lock_guard<std::mutex> lock(allowed_mutex);
  allowed = passes;
  allowed_more.notify_all();
}

/** What a text that repeats after `period` tokens has at a position. */
inline int32_t repeated(int position, int period, uint32_t seed) {
  const uint32_t mixed = (static_cast<uint32_t>(position % period) + 1 + seed) * 2654435761u;
  return static_cast<int32_t>((mixed ^ (mixed >> 15)) % kOrdinary);
}

inline Draft FakeDrafter::draft(const std::vector<int32_t>& known, int32_t most) {
  Draft draft;
  for (int32_t i = 0; i < most; ++i) {
    const int32_t right = repeated(static_cast<int32_t>(known.size()) + i, 5, 0);
    draft.tokens.push_back(kind == kGarbage ? (known.back() * 31 + i * 7) % kOrdinary : i % 3 < 2 ? right : (right + 1) % kOrdinary);
  }
  return draft;
}

/** The token after the one at a position of a sequence, whose hash and whose counts are there. */
inline int32_t choose(const Backend& b, const Sampling& sampling, int slot, int position) {
  const auto seed = static_cast<uint32_t>(sampling.seed);
  const uint32_t hash = b.hashes[slot * b.options.context + position] + seed;
  if (b.forced[slot] >= 0) return b.forced[slot];
  uint32_t counted = 0;
  if (sampling.repetition_penalty != 1) {
    for (int j = 0; j < kVocab; ++j) counted += static_cast<uint32_t>(b.counts[slot * kVocab + j]) * static_cast<uint32_t>(j + 1);
  }
  if (sampling.top_k > 0 && sampling.temperature > 0) {
    if (static_cast<float>((hash ^ position) % 1000) < sampling.min_p * 1000) return static_cast<int32_t>((hash >> 7) % kOrdinary);
    const bool other = sampling.repetition_penalty != 1 && counted % 7 == 0;
    return (repeated(position + 1, sampling.top_k, seed) + static_cast<int32_t>(other)) % kOrdinary;
  }
  return static_cast<int32_t>((sampling.repetition_penalty != 1 ? counted : hash) % kOrdinary);
}

/** Where the mask of a sequence is, or behind a draft of a check. */
inline int mask_at(const Backend& b, int slot, int row) { return row == 0 ? slot : b.options.sequences + row - 1; }

/** The token itself, or the next one behind it that a mask allows; behind the last one comes the first. */
inline int32_t allowed_from(const std::vector<bool>& mask, int32_t token) {
  if (mask.empty()) return token;
  for (int32_t id = token;; id = (id + 1) % kVocab) {
    if (mask[id]) return id;
  }
}

/** Whether a pass whose logits are there may choose: its own thread waits for the answer of backend_ask. */
inline bool may_choose(Backend& b, const PassRequest& pass) {
  if (!pass.may_choose) return true;
  if (b.options.device == 0) return pass.may_choose();
  std::unique_lock<std::mutex> lock(b.mutex);
  b.asks = true;
  b.changed.notify_all();
  b.changed.wait(lock, [&] { return b.answer.has_value(); });
  b.asks = false;
  const bool answer = *b.answer;
  b.answer.reset();
  return answer;
}

inline Result run_pass(Backend& b, const Request& request, int step) {
  {
    std::unique_lock<std::mutex> lock(allowed_mutex);
    allowed_more.wait(lock, [&] { return allowed != 0 || b.stop; });
    if (allowed > 0) --allowed;
  }
  PassRequest pass = request.pass;
  pass.position += step;
  const bool apart = !request.rows.empty();
  const auto slot_of = [&](int i) { return apart ? request.rows[i].slot : pass.slot; };
  const auto position_of = [&](int i) { return apart ? request.rows[i].position : pass.position + i; };
  Result result{-1, kStatusOk, "", false, {}};
  std::vector<bool> rogue(pass.count), nan(pass.count);
  int slow = 0;
  for (int i = 0; i < pass.count; ++i) {
    const int slot = slot_of(i), position = position_of(i), at = slot * b.options.context + position;
    const int32_t id = step > 0 || pass.ids == nullptr || request.ids[i] == kLastChosen ? b.sampled[slot] : request.ids[i];
    uint32_t hash = position == 0 ? 0x811c9dc5u : b.hashes[at - 1];
    hash = (hash ^ static_cast<uint32_t>(id)) * 2654435761u;
    b.hashes[at] = hash ^ (hash >> 15);
    const int before = position > 0 ? b.slow[at - 1] : 0;
    b.slow[at] = static_cast<char>(id == kSlowToken ? 4 : id == kDearToken ? 48 : before);
    slow = std::max<int>(slow, b.slow[at]);
    rogue[i] = id == kRogueToken || (!apart && i > 0 && rogue[i - 1]);
    nan[i] = id == kNanToken;
    if (id == kFailToken) result = {-1, kStatusDevice, "ffn_down: the fake device gave up", false, {}};
    if (id == kThrowToken) result = {-1, kStatusOk, "", true, {}};
  }
  if (slow > 0) std::this_thread::sleep_for(std::chrono::milliseconds(20 + (pass.check ? slow * (pass.count - 1) : 0)));
  if (result.status != kStatusOk || result.throws) return result;
  std::fill(b.logits.begin(), b.logits.end(), std::numeric_limits<float>::quiet_NaN());
  for (int i = pass.first_logits; i < pass.count; ++i) {
    for (int j = 0; j < kVocab; ++j) {
      const uint32_t mixed = b.hashes[slot_of(i) * b.options.context + position_of(i)] ^ (static_cast<uint32_t>(j) * 2654435761u);
      b.logits[static_cast<size_t>(i - pass.first_logits) * kVocab + j] = static_cast<float>(mixed & 0xffffu);
    }
    if (pass.ids != nullptr && request.ids[i] == kNanToken) {
      b.logits[static_cast<size_t>(i - pass.first_logits) * kVocab + 7] = std::numeric_limits<float>::quiet_NaN();
    }
  }
  if (!pass.sample) return result;
  if (b.can.keeps && pass.keep_logits && pass.count - pass.first_logits == 1) result.kept.assign(b.logits.begin(), b.logits.begin() + kVocab);
  if (!may_choose(b, pass)) return {kAbandoned, kStatusOk, "", false, {}};
  for (int i = pass.check || apart ? 0 : pass.count - 1; i < pass.count; ++i) {
    const int slot = slot_of(i);
    const int32_t token = nan[i] ? 0 : allowed_from(b.masks[mask_at(b, slot, pass.check ? i : 0)], choose(b, apart ? request.row_sampling[i] : request.sampling, slot, position_of(i)));
    b.sampled[slot] = token;
    if (!nan[i]) ++b.counts[slot * kVocab + token];
    result.chosen.push_back(nan[i] ? kNotFinite : rogue[i] ? kVocab + 5 : token);
    if (!apart && i + 1 < pass.count && result.chosen.back() != request.ids[i + 1]) break;
  }
  result.token = result.chosen.front();
  return result;
}
