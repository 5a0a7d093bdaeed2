// The sequences of an engine, by their slots of the cache: which positions are in use, and the job that runs there, or ran last. Callers add jobs, stop
// them and fetch their tokens, while a thread runs passes (batch.h).
#pragma once
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backend.h"
#include "channel.h"
#include "errors.h"
#include "generate.h"
#include "masks.h"
#include "outbox.h"
#include "speculation.h"

class Sequences {
 public:
  /** @param slots sequences of the cache, each of `context` positions */
  Sequences(Channel& channel, int32_t slots, int32_t context) : channel_(channel), context_(context), members_(static_cast<size_t>(slots)) {}
  Sequences(const Sequences&) = delete;
  Sequences& operator=(const Sequences&) = delete;

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

  /** Whether jobs run. */
  bool serving() {
    std::lock_guard<std::mutex> lock(mutex_);
    return serving_;
  }

  /** A job of the sequence begins with the next pass. True: nobody runs passes, so the caller has serve() run. */
  bool generate(int32_t slot, GenerateJob job) {
    std::lock_guard<std::mutex> lock(mutex_);
    Masks masks(job.masked, job.sampling.vocab);  // before the job runs: it takes memory
    Member& member = start_job(slot, job.prompt);
    member.masks = std::move(masks);
    member.job = std::move(job);
    wake();
    return !std::exchange(serving_, true);
  }

  bool score(int32_t slot, const ScoreJob& job) {
    std::lock_guard<std::mutex> lock(mutex_);
    Member& member = start_job(slot, job.ids);
    member.scores = true;
    member.first_scored = member.computed + job.first;
    member.outbox.progress.total = static_cast<int64_t>(job.ids.size());
    wake();
    return !std::exchange(serving_, true);
  }

  /** Logits of the last score, which are then forgotten. */
  std::vector<float> take_logits(int32_t slot) {
    std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(idle(slot).logits, {});
  }

  void stop(int32_t slot) {
    std::lock_guard<std::mutex> lock(mutex_);
    opened(slot).stop = true;
    wake();
  }

  /** Edits the masks of the job of a sequence that runs, or ran last. */
  template <class Edit>
  void edit_masks(int32_t slot, Edit&& edit) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      edit(opened(slot).masks);
      news_ = true;
    }
    changed_.notify_all();
  }

  /** To be called when what `stopping` of serve() says has changed. */
  void look_again() {
    std::lock_guard<std::mutex> lock(mutex_);
    wake();
  }

  /** Forgets the positions from `length` on. */
  void reset(int32_t slot, int32_t length) {
    std::lock_guard<std::mutex> lock(mutex_);
    Member& member = idle(slot);
    if (length < 0 || static_cast<size_t>(length) > member.tokens.size()) {
      fail(kStatusBadArgument, "cannot reset to %d: the positions in use are 0 to %zu", length, member.tokens.size());
    }
    keep_positions(member, length);
  }

  /** Gives a sequence the first positions of another in place of its own. The other may have a job, which changes none that are there. */
  void copy(Backend* backend, int32_t slot, int32_t source, int32_t length) {
    std::lock_guard<std::mutex> lock(mutex_);
    Member& member = idle(slot);
    const Member& other = opened(source);
    if (slot == source) fail(kStatusBadArgument, "a sequence cannot be copied to itself");
    check_range(other, 0, length);
    keep_positions(member, 0);
    std::string error;
    check(backend_copy_positions(backend, source, slot, length, &error), error);
    add_positions(member, other.tokens.data(), length);
  }

  /** backend_read_positions of a sequence, which may have a job. */
  void read(Backend* backend, int32_t slot, int32_t position, int32_t count, void* bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    check_range(opened(slot), position, count);
    std::string error;
    check(backend_read_positions(backend, slot, position, count, bytes, &error), error);
  }

  /** backend_write_positions of a sequence without a job, behind those that it has. */
  void write(Backend* backend, int32_t slot, const std::vector<int32_t>& ids, const void* bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    Member& member = idle(slot);
    check_room(member.computed, ids.size());
    std::string error;
    const auto count = static_cast<int32_t>(ids.size());
    check(backend_write_positions(backend, slot, member.computed, count, bytes, &error), error);
    add_positions(member, ids.data(), count);
  }

  /** Outbox::take of the sequence's job, and why it failed. */
  Progress poll(int32_t slot, int32_t* out, int32_t capacity, std::string* error) {
    std::lock_guard<std::mutex> lock(mutex_);
    Member& member = opened(slot);
    const Progress progress = member.outbox.take(channel_, out, capacity);
    if (progress.state == kJobFailed) *error = member.error;
    return progress;
  }

  /** Outbox::take_logprobs of the sequence's job. */
  void take_logprobs(int32_t slot, int32_t* ids, float* values, int32_t capacity) {
    std::lock_guard<std::mutex> lock(mutex_);
    opened(slot).outbox.take_logprobs(ids, values, capacity);
  }

 protected:
  /** How a job ended. */
  struct Ending {
    int32_t finish;
    int status;
    std::string error;
  };

  struct Member {
    bool open = false;
    std::vector<int32_t> tokens;  // of the sequence: those in the cache, and while a job runs those that are next
    int32_t computed = 0;         // positions in the cache
    // The job that runs, or ran last. While it runs, what stands above and the job are the thread's.
    GenerateJob job{};
    Masks masks;
    bool scores = false;       // it makes logits in the place of tokens
    int32_t first_scored = 0;  // position of their first
    std::vector<float> logits;
    bool running = false;
    bool stop = false;
    bool counted = false;       // the backend has the counts for its penalties
    bool late = false;          // others have waited for its mask, and do so no more
    int32_t in_flight = 0;      // passes under way that have a token of it
    bool feeding = false;       // one of them has a chunk of its prompt
    std::unique_ptr<Speculation> speculation;  // once it has decoded alone
    int32_t plain_steps = 0;    // passes of its launch before this one, if that had no drafts
    std::optional<Ending> ending;  // to come, once none is under way
    int64_t arrival = 0;
    std::chrono::steady_clock::time_point begin, first;
    Outbox outbox;
    std::string error;
  };

  bool running(int32_t slot) {
    std::lock_guard<std::mutex> lock(mutex_);
    return members_[slot].running;
  }

  static int32_t left(const Member& member) { return static_cast<int32_t>(member.tokens.size()) - member.computed; }

  Channel& channel_;
  const int32_t context_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool news_ = false;  // since the last look for what there is to do
  std::vector<Member> members_;  // by slot
  bool serving_ = false;

 private:
  Member& opened(int32_t slot) {
    if (slot < 0 || static_cast<size_t>(slot) >= members_.size() || !members_[slot].open) {
      fail(kStatusBadArgument, "no sequence is open in slot %d", slot);
    }
    return members_[slot];
  }

  Member& idle(int32_t slot) {
    Member& member = opened(slot);
    if (member.running) fail(kStatusBusy, "the sequence is busy with another job");
    return member;
  }

  void check_room(int32_t position, size_t count) const {
    if (static_cast<size_t>(position) + count <= static_cast<size_t>(context_)) return;
    fail(kStatusCapacity, "%zu tokens do not fit: %d of %d positions are in use", count, position, context_);
  }

  static void check_range(const Member& member, int32_t position, int32_t count) {
    if (position >= 0 && count >= 0 && position <= member.computed - count) return;
    fail(kStatusBadArgument, "there are no positions [%d, %lld): those in use are 0 to %d", position,
         static_cast<long long>(position) + count, member.computed);
  }

  /** Forgets the positions from `length` on. */
  static void keep_positions(Member& member, int32_t length) {
    member.tokens.resize(static_cast<size_t>(length));
    member.computed = member.outbox.progress.position = length;
  }

  /** Tokens whose positions are in the cache already. */
  static void add_positions(Member& member, const int32_t* ids, int32_t count) {
    member.tokens.insert(member.tokens.end(), ids, ids + count);
    member.computed += count;
    member.outbox.progress.position = member.computed;
  }

  /** Hands a sequence to the thread, with tokens that are to be fed. */
  Member& start_job(int32_t slot, const std::vector<int32_t>& ids) {
    Member& member = idle(slot);
    check_room(member.computed, ids.size());
    member.masks = {};
    member.tokens.insert(member.tokens.end(), ids.begin(), ids.end());
    member.speculation.reset();
    member.plain_steps = kFirstPlainSteps;
    member.running = true;
    member.stop = member.counted = member.late = member.scores = false;
    member.logits.clear();
    member.begin = member.first = std::chrono::steady_clock::now();
    member.arrival = ++arrivals_;
    member.outbox = Outbox{};
    member.outbox.progress.state = kJobRunning;
    member.outbox.progress.position = member.computed;
    return member;
  }

  void wake() {
    news_ = true;
    changed_.notify_all();
  }

  int64_t arrivals_ = 0;
};
