// Sequences of an engine, several at once. Each pass takes one token of every sequence that decodes, or a chunk of the prompt of one; no pass
// does both, and a chunk ends where it would end alone. So a sequence is computed by the passes that it would have by itself.
// One thread runs the passes; callers add jobs, stop them and fetch their tokens meanwhile.
#pragma once
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "backend.h"
#include "channel.h"
#include "errors.h"
#include "generate.h"
#include "masks.h"
#include "model_facts.h"
#include "outbox.h"
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

  /** Whether jobs run. */
  bool serving() {
    std::lock_guard<std::mutex> lock(mutex_);
    return serving_;
  }

  /** A job of the sequence begins with the next pass. True: nobody runs passes, so the caller has serve() run. */
  bool generate(int32_t slot, GenerateJob job) {
    std::lock_guard<std::mutex> lock(mutex_);
    Member& member = begin(slot, job.prompt);
    member.mask = {job.masked, job.sampling.vocab};
    member.job = std::move(job);
    wake();
    return !std::exchange(serving_, true);
  }

  bool score(int32_t slot, const ScoreJob& job) {
    std::lock_guard<std::mutex> lock(mutex_);
    Member& member = begin(slot, job.ids);
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

  /** NextMask::give of the job of a sequence that runs, or ran last. */
  void give_mask(int32_t slot, const void* words, int32_t count) {
    std::lock_guard<std::mutex> lock(mutex_);
    opened(slot).mask.give(words, count);
    wake();
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
    member.tokens.resize(static_cast<size_t>(length));
    member.computed = member.outbox.progress.position = length;
  }

  /** Gives a sequence the first positions of another in place of its own. The other may have a job, which changes none that are there. */
  void copy(Backend* backend, int32_t slot, int32_t source, int32_t length) {
    std::lock_guard<std::mutex> lock(mutex_);
    Member& member = idle(slot);
    const Member& other = opened(source);
    if (slot == source) fail(kStatusBadArgument, "a sequence cannot be copied to itself");
    check_range(other, 0, length);
    clear(member);
    std::string error;
    check(backend_copy_positions(backend, source, slot, length, &error), error);
    append(member, other.tokens.data(), length);
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
    append(member, ids.data(), count);
  }

  /** Outbox::take of the sequence's job, and why it failed. */
  Progress poll(int32_t slot, int32_t* out, int32_t capacity, std::string* error) {
    std::lock_guard<std::mutex> lock(mutex_);
    signalled_ = false;
    Member& member = opened(slot);
    const Progress progress = member.outbox.take(out, capacity);
    if (member.outbox.waiting()) signal();
    if (progress.state == kJobFailed) *error = member.error;
    return progress;
  }

  /** Outbox::take_logprobs of the sequence's job. */
  void take_logprobs(int32_t slot, int32_t* ids, float* values, int32_t capacity) {
    std::lock_guard<std::mutex> lock(mutex_);
    opened(slot).outbox.take_logprobs(ids, values, capacity);
  }

  // ---- for the thread of passes

  /** Runs passes until every job has ended. */
  template <class Stopping>
  void serve(Backend* backend, Stopping&& stopping) {
    for (over_ = false; !over_;) {
      if (step(backend, stopping())) continue;
      // All that run wait for masks.
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [&] { return news_; });
    }
  }

 private:
  struct Member {
    bool open = false;
    std::vector<int32_t> tokens;  // of the sequence: those in the cache, and while a job runs those that are next
    int32_t computed = 0;         // positions in the cache
    // The job that runs, or ran last. While it runs, what stands above and the job are the thread's.
    GenerateJob job{};
    NextMask mask;
    bool scores = false;       // it makes logits in the place of tokens
    int32_t first_scored = 0;  // position of their first
    std::vector<float> logits;
    bool running = false;
    bool stop = false;
    bool counted = false;       // the backend has the counts for its penalties
    int64_t arrival = 0;
    std::chrono::steady_clock::time_point begin, first;
    Outbox outbox;
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

  static void clear(Member& member) {
    member.tokens.clear();
    member.computed = member.outbox.progress.position = 0;
  }

  static void append(Member& member, const int32_t* ids, int32_t count) {
    member.tokens.insert(member.tokens.end(), ids, ids + count);
    member.computed += count;
    member.outbox.progress.position = member.computed;
  }

  /** A sequence whose job begins with these tokens. */
  Member& begin(int32_t slot, const std::vector<int32_t>& ids) {
    Member& member = idle(slot);
    check_room(member.computed, ids.size());
    member.tokens.insert(member.tokens.end(), ids.begin(), ids.end());
    member.mask = {};
    member.running = true;
    member.stop = member.counted = member.scores = false;
    member.logits.clear();
    member.begin = member.first = std::chrono::steady_clock::now();
    member.arrival = ++arrivals_;
    member.outbox = Outbox{};
    member.outbox.progress.state = kJobRunning;
    member.outbox.progress.position = member.computed;
    return member;
  }

  static int32_t left(const Member& member) { return static_cast<int32_t>(member.tokens.size()) - member.computed; }

  /** What ends, a chunk of the prompt that came first, and a pass of all that decode, but for tokens that wait for their masks. False: there
   *  was nothing of it. */
  bool step(Backend* backend, bool stopping) {
    std::vector<int32_t> ending, decoding;
    int32_t filling = -1;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      news_ = false;
      for (int32_t slot = 0; slot < static_cast<int32_t>(members_.size()); ++slot) {
        const Member& member = members_[slot];
        if (!member.running) continue;
        if (member.stop || stopping) {
          ending.push_back(slot);
        } else if (!member.mask.ready() && samples_next(backend, member)) {
          continue;
        } else if (left(member) == 1 && !member.scores) {
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
    return !ending.empty() || filling >= 0 || !decoding.empty();
  }

  /** Whether the next pass of a sequence chooses a token. */
  static bool samples_next(Backend* backend, const Member& member) {
    return !member.scores && tokens_of_pass(backend, left(member), 1) == left(member);
  }

  /** Tells the backend what the token that is chosen next depends on. */
  void prepare(Backend* backend, int32_t slot) {
    count(backend, slot);
    Member& member = members_[slot];
    if (!member.job.masked) return;
    MaskWords mask;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      mask = member.mask.take();
    }
    apply_mask(backend, slot, member.job, mask);
  }

  void count(Backend* backend, int32_t slot) {
    Member& member = members_[slot];
    if (std::exchange(member.counted, true)) return;
    prepare_choice(backend, slot, member.job, member.tokens);
  }

  /** Feeds a chunk of a prompt, the last one with the first token of the reply; or of what is scored. */
  void fill(Backend* backend, int32_t slot) {
    Member& member = members_[slot];
    int32_t token = -1;
    PassRequest request{};
    request.slot = slot;
    request.ids = member.tokens.data() + member.computed;
    request.count = member.scores ? scored_of_pass(backend, left(member), member.computed, member.first_scored) : tokens_of_pass(backend, left(member), 1);
    request.position = member.computed;
    request.sample = !member.scores && request.count == left(member);
    request.first_logits = request.sample    ? request.count - 1
                           : member.scores ? std::clamp(member.first_scored - member.computed, 0, request.count)
                                             : request.count;
    request.sampling = &member.job.sampling;
    request.keep_logits = member.job.wants_logprobs();
    request.steps = 1;
    std::string error;
    const int status = guarded(&error, [&] {
      if (request.sample) prepare(backend, slot);
      Passes passes(backend);
      passes.enqueue(request);
      token = passes.wait();
      if (member.scores && token != kAbandoned) keep_logits(backend, member, request);
    });
    if (status != kStatusOk) return end(slot, kFinishNone, status, error);
    if (token == kAbandoned) return end(slot, kFinishAborted);
    advance(slot, request.count);
    if (request.sample) return take(backend, slot, token, 0);
    if (left(member) == 0) end(slot, kFinishNone);
  }

  static void keep_logits(Backend* backend, Member& member, const PassRequest& request) {
    const int32_t rows = request.count - request.first_logits;
    const size_t before = member.logits.size();
    member.logits.resize(before + static_cast<size_t>(rows) * kModel.vocab);
    fetch_logits(backend, rows, request.position + request.first_logits, member.logits.data() + before);
  }

  /** Feeds the last token of each of these sequences, and takes the one behind it. */
  void decode(Backend* backend, const std::vector<int32_t>& slots) {
    std::vector<int32_t> ids, chosen(kModel.pass_tokens);
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
    for (const int32_t slot : slots) request.keep_logits |= members_[slot].job.wants_logprobs();
    request.steps = 1;
    if (backend_rows(backend) > 1) request.rows = rows.data();  // one too: on a CPU its bits are those of a row among others
    std::string error;
    const int status = guarded(&error, [&] {
      for (const int32_t slot : slots) prepare(backend, slot);
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
        take(backend, slots[i], chosen[i], static_cast<int32_t>(i));
      }
    }
  }

  void advance(int32_t slot, int32_t count) {
    std::lock_guard<std::mutex> lock(mutex_);
    Member& member = members_[slot];
    member.computed += count;
    member.outbox.progress.position = member.computed;
    if (member.scores) member.outbox.progress.done += count;
    if (left(member) > 0) signal();
  }

  /** The token that was chosen behind the last one fed, from a row of logits. */
  void take(Backend* backend, int32_t slot, int32_t token, int32_t row) {
    Member& member = members_[slot];
    std::vector<TokenLogprob> logprobs;
    std::string error;
    const int status = guarded(&error, [&] {
      check_token(token, member.computed - 1);
      logprobs = logprobs_of_row(backend, member.job, row, token, member.computed - 1);
    });
    if (status != kStatusOk) return end(slot, kFinishNone, status, error);
    int32_t finish = kFinishNone;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (member.outbox.tokens.empty()) member.first = std::chrono::steady_clock::now();
      member.tokens.push_back(token);
      member.outbox.tokens.push_back(token);
      member.outbox.logprobs.insert(member.outbox.logprobs.end(), logprobs.begin(), logprobs.end());
      member.outbox.progress.done = static_cast<int64_t>(member.outbox.tokens.size());
      member.outbox.progress.prefill_ms = std::chrono::duration<double, std::milli>(member.first - member.begin).count();
      member.outbox.progress.decode_ms = milliseconds_since(member.first);
      finish = finish_with(member.job, token, member.outbox.progress.done);
      if (finish == kFinishNone && member.computed == context_) finish = kFinishContext;
      if (finish == kFinishNone) signal();
    }
    if (finish != kFinishNone) end(slot, finish);
  }

  /** The job has ended, and keeps what is in the cache. With the last one the thread leaves: whoever adds another has serve() run again. */
  void end(int32_t slot, int32_t finish, int status = kStatusOk, const std::string& error = "") {
    std::lock_guard<std::mutex> lock(mutex_);
    Member& member = members_[slot];
    member.running = false;
    member.tokens.resize(static_cast<size_t>(member.computed));
    if (status != kStatusOk || finish == kFinishAborted) member.logits.clear();
    member.outbox.progress.state = status == kStatusOk ? kJobDone : kJobFailed;
    member.outbox.progress.status = status;
    member.outbox.progress.finish = finish;
    if (member.outbox.tokens.empty()) member.outbox.progress.prefill_ms = milliseconds_since(member.begin);
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

  void wake() {
    news_ = true;
    changed_.notify_all();
  }

  Channel& channel_;
  const int32_t context_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool news_ = false;  // since the last look for what there is to do
  std::vector<Member> members_;  // by slot
  bool serving_ = false;
  bool signalled_ = false;
  int64_t arrivals_ = 0;
  bool over_ = false;   // the thread's own, as is what follows
  int32_t last_ = -1;   // slot that was the last of a pass
};
