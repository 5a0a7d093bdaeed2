// One job at a time on a thread of its own, and what the caller may see of it: tokens, progress, an event to wait for.
#pragma once
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "channel.h"
#include "errors.h"
#include "masks.h"
#include "outbox.h"

class JobThread {
 public:
  explicit JobThread(Channel& channel) : channel_(channel), thread_([this] { run_jobs(); }) {}
  JobThread(const JobThread&) = delete;
  JobThread& operator=(const JobThread&) = delete;

  /** Stops the job that runs and waits for its end. */
  ~JobThread() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      quit_ = true;
      stop_ = true;
      changed_.notify_all();
    }
    thread_.join();
  }

  // ---- for the caller

  /** Hands a job to the thread. False when one is running. Tokens of the job before that nobody fetched are dropped.
   *  @param masks what it waits for before each token
   *  @param told whether the caller is told of its end */
  bool start(std::function<void()> body, Masks masks = {}, bool told = true) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (outbox_.progress.state == kJobRunning) return false;
    told_ = told;
    masks_ = std::move(masks);
    const int32_t position = outbox_.progress.position;
    outbox_ = Outbox{};
    outbox_.progress.state = kJobRunning;
    outbox_.progress.position = position;
    stop_ = false;
    body_ = std::move(body);
    changed_.notify_all();
    return true;
  }

  /** Returns when no job runs. */
  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return outbox_.progress.state != kJobRunning; });
  }

  /** Runs body on the thread and waits for it; throws what it failed with. For the caller's own short jobs, of which nobody is told. */
  void run(std::function<void()> body) {
    if (!start(std::move(body), {}, false)) fail(kStatusBusy, "the engine is busy");
    wait();
    std::lock_guard<std::mutex> lock(mutex_);
    const int status = outbox_.progress.status;
    outbox_.progress = Progress{};
    told_ = true;
    check(status, error_);
  }

  bool running() {
    std::lock_guard<std::mutex> lock(mutex_);
    return outbox_.progress.state == kJobRunning;
  }

  void stop() {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
    changed_.notify_all();
  }

  /** Edits the masks of the job that runs, or ran last. */
  template <class Edit>
  void edit_masks(Edit&& edit) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      edit(masks_);
    }
    changed_.notify_all();
  }

  /** Outbox::take of the job. */
  Progress poll(int32_t* out, int32_t capacity) {
    std::lock_guard<std::mutex> lock(mutex_);
    return outbox_.take(channel_, out, capacity);
  }

  /** Outbox::take_logprobs of the job. */
  void take_logprobs(int32_t* ids, float* values, int32_t capacity) {
    std::lock_guard<std::mutex> lock(mutex_);
    outbox_.take_logprobs(ids, values, capacity);
  }

  /** Why the last job failed. */
  std::string error() {
    std::lock_guard<std::mutex> lock(mutex_);
    return error_;
  }

  // ---- for the job, and for the caller while no job runs

  bool stopping() const { return stop_; }

  /** Whether wait_for_mask would return at once; waits for that for kMaskLook. */
  bool mask_comes() {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, kMaskLook, [this] { return stop_ || masks_.ready(); });
  }

  /** Waits for the mask of the next token. False: the job is to stop in its place. */
  bool wait_for_mask(MaskWords* mask) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return stop_ || masks_.ready(); });
    if (!stop_) *mask = masks_.take();
    return !stop_;
  }

  /** What is expected of the next token on, up to `most` tokens; waits until that is told. Nothing where the job is to stop. */
  std::vector<Expected> wait_for_expected(int32_t most) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return stop_ || !masks_.expects(); });
    return stop_ ? std::vector<Expected>{} : masks_.expected(most);
  }

  /** Whether something may be expected behind the next token. */
  bool expects() {
    std::lock_guard<std::mutex> lock(mutex_);
    return masks_.expects() || !masks_.expected(1).empty();
  }

  /** Changes the visible progress and wakes the caller. */
  template <class Edit>
  void report(Edit&& edit) {
    tell([&] { edit(outbox_.progress); });
  }

  /** Hands one token to the caller, with its log probabilities, if any, and the progress it makes. Its mask has been taken. */
  template <class Edit>
  void deliver(int32_t token, const std::vector<TokenLogprob>& logprobs, Edit&& edit) {
    tell([&] {
      masks_.chose(token);
      outbox_.tokens.push_back(token);
      outbox_.logprobs.insert(outbox_.logprobs.end(), logprobs.begin(), logprobs.end());
      edit(outbox_.progress);
    });
  }

 private:
  void run_jobs() {
    for (;;) {
      std::function<void()> body;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [this] { return quit_ || body_; });
        if (!body_) return;
        body.swap(body_);
      }
      std::string error;
      const int status = guarded(&error, body);
      body = nullptr;  // frees what the job held before anyone is told
      tell([&] {
        outbox_.progress.state = status == kStatusOk ? kJobDone : kJobFailed;
        outbox_.progress.status = status;
        error_.swap(error);
        changed_.notify_all();
      });
    }
  }

  /** Changes what the caller sees, and wakes it. */
  template <class Change>
  void tell(Change&& change) {
    bool told;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      change();
      told = told_;
    }
    if (told) channel_.tell();
  }

  Channel& channel_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<void()> body_;
  Outbox outbox_;
  Masks masks_;
  std::string error_;
  std::atomic<bool> stop_{false};
  bool told_ = true;
  bool quit_ = false;
  std::thread thread_;  // last: it uses all of the above
};
