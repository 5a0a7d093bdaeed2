// Sequences of an engine, several at once. Each pass takes one token of every sequence that decodes, or a chunk of the prompt of one; no pass
// does both, and a chunk ends where it would end alone. So a sequence is computed by the passes that it would have by itself.
// One thread runs the passes; callers add replies, stop them and fetch their tokens meanwhile.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "backend.h"
#include "channel.h"
#include "errors.h"
#include "generate.h"
#include "passes.h"

class Batch {
 public:
  /** @param slots sequences of the cache, each of `context` positions */
  Batch(Channel& channel, int32_t slots, int32_t context) : channel_(channel), context_(context), members_(static_cast<size_t>(slots)) {}
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

  // ---- for callers

  /** A slot that is free, from the last one down; slot 0 only where the engine's own sequence has no use for it. */
  int32_t open(bool first_too) {
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto slot = static_cast<int32_t>(members_.size()) - 1; slot >= (first_too ? 0 : 1); --slot) {
      if (members_[slot].open) continue;
      members_[slot] = Member{};
      members_[slot].open = true;
      return slot;
    }
    if (first_too) fail(kStatusCapacity, "no sequence is free: all %zu are open; close one first", members_.size());
    fail(kStatusCapacity, "no sequence is free: %zu are open, and the engine's own has tokens; close one first, or reset the engine", members_.size() - 1);
  }

  void close(int32_t slot) {
    std::lock_guard<std::mutex> lock(mutex_);
    idle(slot) = Member{};
  }

  bool is_open(int32_t slot) {
    std::lock_guard<std::mutex> lock(mutex_);
    return members_[slot].open;
  }

  bool any_open() {
    std::lock_guard<std::mutex> lock(mutex_);
    return std::any_of(members_.begin(), members_.end(), [](const Member& member) { return member.open; });
  }

  /** Whether replies run. */
  bool serving() {
    std::lock_guard<std::mutex> lock(mutex_);
    return serving_;
  }

  /** A reply of the sequence begins with the next pass. True: nobody runs passes, so the caller has serve() run. */
  bool add(int32_t slot, GenerateJob job) {
    std::lock_guard<std::mutex> lock(mutex_);
    Member& member = idle(slot);
    const size_t tokens = member.tokens.size() + job.prompt.size();
    if (tokens == 0) fail(kStatusBadArgument, "the sequence is empty");
    if (tokens > static_cast<size_t>(context_)) {
      fail(kStatusCapacity, "%zu tokens do not fit: the sequence has %zu, and room for %d", job.prompt.size(), member.tokens.size(), context_);
    }
    member.tokens.insert(member.tokens.end(), job.prompt.begin(), job.prompt.end());
    // The logits of the last token are wanted, so it is fed in any case.
    member.computed = std::min(member.computed, static_cast<int32_t>(member.tokens.size()) - 1);
    member.job = std::move(job);
    member.running = true;
    member.stop = member.counted = false;
    member.fresh.clear();
    member.fetched = 0;
    member.begin = member.first = std::chrono::steady_clock::now();
    member.arrival = ++arrivals_;
    member.progress = Progress{};
    member.progress.state = kJobRunning;
    member.progress.position = member.computed;
    return !std::exchange(serving_, true);
  }

  void stop(int32_t slot) {
    std::lock_guard<std::mutex> lock(mutex_);
    opened(slot).stop = true;
  }

  /** Forgets the tokens from `length` on. */
  void reset(int32_t slot, int32_t length) {
    std::lock_guard<std::mutex> lock(mutex_);
    Member& member = idle(slot);
    if (length < 0 || static_cast<size_t>(length) > member.tokens.size()) {
      fail(kStatusBadArgument, "cannot reset to %d: the sequence has %zu tokens", length, member.tokens.size());
    }
    member.tokens.resize(static_cast<size_t>(length));
    member.computed = std::min(member.computed, length);
    member.progress.position = member.computed;
  }

  /** Copies out up to `capacity` new tokens and the state of the reply, which counts as running until its last token is fetched. */
  Progress poll(int32_t slot, int32_t* out, int32_t capacity, std::string* error) {
    std::lock_guard<std::mutex> lock(mutex_);
    signalled_ = false;
    Member& member = opened(slot);
    Progress progress = member.progress;
    progress.tokens = static_cast<int32_t>(std::min(member.fresh.size() - member.fetched, static_cast<size_t>(capacity)));
    std::copy_n(member.fresh.begin() + static_cast<std::ptrdiff_t>(member.fetched), progress.tokens, out);
    member.fetched += static_cast<size_t>(progress.tokens);
    if (member.fetched < member.fresh.size()) {
      progress.state = kJobRunning;
      progress.status = kStatusOk;
      signal();
    }
    if (progress.state == kJobFailed) *error = member.error;
    return progress;
  }

  // ---- for the thread of passes

  /** Runs passes until every reply has ended. */
  template <class Stopping>
  void serve(Backend* backend, Stopping&& stopping) {
    for (over_ = false; !over_;) step(backend, stopping());
  }

 private:
  struct Member {
    bool open = false;
    std::vector<int32_t> tokens;  // of the sequence: those that are fed, and behind them those that are not
    int32_t computed = 0;         // positions in the cache
    // The reply that runs, or ran last. While it runs, what stands above and the job are the thread's.
    GenerateJob job{};
    bool running = false;
    bool stop = false;
    bool counted = false;       // the backend has the counts for its penalties
    int64_t arrival = 0;
    std::vector<int32_t> fresh;  // its tokens
    size_t fetched = 0;          // of them
    std::chrono::steady_clock::time_point begin, first;
    Progress progress{};
    std::string error;
  };

  Member& opened(int32_t slot) {
    if (slot < 0 || static_cast<size_t>(slot) >= members_.size() || !members_[slot].open) {
      fail(kStatusBadArgument, "no sequence is open in slot %d", slot);
    }
    return members_[slot];
  }

  Member& idle(int32_t slot) {
    Member& member = opened(slot);
    if (member.running) fail(kStatusBusy, "the sequence is busy with another reply");
    return member;
  }

  static int32_t left(const Member& member) { return static_cast<int32_t>(member.tokens.size()) - member.computed; }

  /** What ends, a chunk of the prompt that came first, and a pass of all that decode. */
  void step(Backend* backend, bool stopping) {
    std::vector<int32_t> ending, decoding;
    int32_t filling = -1;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      for (int32_t slot = 0; slot < static_cast<int32_t>(members_.size()); ++slot) {
        const Member& member = members_[slot];
        if (!member.running) continue;
        if (member.stop || stopping) {
          ending.push_back(slot);
        } else if (left(member) == 1) {
          decoding.push_back(slot);
        } else if (filling < 0 || member.arrival < members_[filling].arrival) {
          filling = slot;
        }
      }
    }
    for (const int32_t slot : ending) end(slot, kFinishAborted);
    if (filling >= 0) fill(backend, filling);
    const auto most = static_cast<size_t>(backend_rows(backend));
    if (decoding.size() > most) {  // in turns, from the slot behind the last one that had its turn
      const auto next = std::upper_bound(decoding.begin(), decoding.end(), last_);
      std::rotate(decoding.begin(), next, decoding.end());
      decoding.resize(most);
    }
    if (!decoding.empty()) decode(backend, decoding);
  }

  void count(Backend* backend, int32_t slot) {
    Member& member = members_[slot];
    if (std::exchange(member.counted, true)) return;
    std::string error;
    check(backend_counts(backend, slot, member.tokens.data(), static_cast<int64_t>(member.tokens.size()), &error), error);
  }

  /** Feeds a chunk of more than one token; the last one of a prompt brings the first token of the reply. */
  void fill(Backend* backend, int32_t slot) {
    Member& member = members_[slot];
    int32_t token = -1;
    PassRequest request{};
    request.slot = slot;
    request.ids = member.tokens.data() + member.computed;
    request.count = tokens_of_pass(backend, left(member), true);
    request.position = member.computed;
    request.sample = request.count == left(member);
    request.first_logits = request.sample ? request.count - 1 : request.count;
    request.sampling = &member.job.sampling;
    request.steps = 1;
    std::string error;
    const int status = guarded(&error, [&] {
      count(backend, slot);
      Passes passes(backend);
      passes.enqueue(request);
      token = passes.wait();
    });
    if (status != kStatusOk) return end(slot, kFinishNone, status, error);
    if (token == kAbandoned) return end(slot, kFinishAborted);
    advance(slot, request.count);
    if (request.sample) take(slot, token);
  }

  /** Feeds the last token of each of these sequences, and takes the one behind it. */
  void decode(Backend* backend, const std::vector<int32_t>& slots) {
    std::vector<int32_t> ids, chosen(kPassTokens);
    std::vector<Row> rows;
    for (const int32_t slot : slots) {
      const Member& member = members_[slot];
      ids.push_back(member.tokens.back());
      rows.push_back({slot, member.computed, &member.job.sampling});
    }
    PassRequest request{};
    request.ids = ids.data();
    request.count = static_cast<int32_t>(ids.size());
    request.slot = rows[0].slot;
    request.position = rows[0].position;
    request.sampling = rows[0].sampling;
    request.sample = true;
    request.steps = 1;
    if (backend_rows(backend) > 1) request.rows = rows.data();  // one too: its bits are those of a row among others
    std::string error;
    const int status = guarded(&error, [&] {
      for (const int32_t slot : slots) count(backend, slot);
      Passes passes(backend);
      passes.enqueue(request);
      chosen[0] = passes.wait();
      if (request.rows) backend_chosen(backend, chosen.data());
    });
    last_ = slots.back();
    for (size_t i = 0; i < slots.size(); ++i) {
      if (status != kStatusOk) {
        end(slots[i], kFinishNone, status, error);
      } else {
        advance(slots[i], 1);
        take(slots[i], chosen[i]);
      }
    }
  }

  void advance(int32_t slot, int32_t count) {
    std::lock_guard<std::mutex> lock(mutex_);
    Member& member = members_[slot];
    member.computed += count;
    member.progress.position = member.computed;
  }

  /** The token that was chosen behind the last one fed. */
  void take(int32_t slot, int32_t token) {
    Member& member = members_[slot];
    if (token < 0 || token >= kVocab) {
      std::string error;
      const int status = guarded(&error, [&] {
        if (token == kNotFinite) fail_not_finite(member.computed - 1);
        fail(kStatusInternal, "sampled %d, which is no token", token);
      });
      return end(slot, kFinishNone, status, error);
    }
    const std::vector<int32_t>& stops = member.job.stop_ids;
    bool ended = true;
    int32_t finish = kFinishNone;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (member.fresh.empty()) member.first = std::chrono::steady_clock::now();
      member.tokens.push_back(token);
      member.fresh.push_back(token);
      member.progress.done = static_cast<int64_t>(member.fresh.size());
      member.progress.prefill_ms = std::chrono::duration<double, std::milli>(member.first - member.begin).count();
      member.progress.decode_ms = milliseconds_since(member.first);
      if (std::find(stops.begin(), stops.end(), token) != stops.end()) {
        finish = kFinishStop;
      } else if (member.progress.done == member.job.max_tokens) {
        finish = kFinishLength;
      } else if (member.computed == context_) {
        finish = kFinishContext;
      } else {
        ended = false;
        signal();
      }
    }
    if (ended) end(slot, finish);
  }

  /** The reply has ended. With the last one the thread leaves: whoever adds another has serve() run again. */
  void end(int32_t slot, int32_t finish, int status = kStatusOk, const std::string& error = "") {
    std::lock_guard<std::mutex> lock(mutex_);
    Member& member = members_[slot];
    member.running = false;
    member.progress.state = status == kStatusOk ? kJobDone : kJobFailed;
    member.progress.status = status;
    member.progress.finish = finish;
    if (member.fresh.empty()) member.progress.prefill_ms = milliseconds_since(member.begin);
    member.error = error;
    over_ = std::none_of(members_.begin(), members_.end(), [](const Member& other) { return other.running; });
    if (over_) serving_ = false;
    signal();
  }

  /** One byte until the next poll: whoever reads it polls every sequence. */
  void signal() {
    if (!signalled_) channel_.signal();
    signalled_ = true;
  }

  Channel& channel_;
  const int32_t context_;
  std::mutex mutex_;
  std::vector<Member> members_;  // by slot
  bool serving_ = false;
  bool signalled_ = false;
  int64_t arrivals_ = 0;
  bool over_ = false;   // the thread's own, as is what follows
  int32_t last_ = -1;   // slot that was the last of a pass
};
