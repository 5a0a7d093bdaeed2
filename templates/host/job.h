// One job at a time on a thread of its own, and what the caller may see of it: tokens, progress, an event to wait for.
#pragma once
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "channel.h"
#include "errors.h"

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

  /** Hands a job to the thread. False when one is running. Tokens of the job before that nobody fetched are dropped. */
  bool start(std::function<void()> body) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (progress_.state == kJobRunning) return false;
    const int32_t position = progress_.position;
    progress_ = Progress{};
    progress_.state = kJobRunning;
    progress_.position = position;
    tokens_.clear();
    delivered_ = 0;
    stop_ = false;
    body_ = std::move(body);
    changed_.notify_all();
    return true;
  }

  /** Returns when no job runs. */
  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return progress_.state != kJobRunning; });
  }

  /** Runs body on the thread and waits for it; throws what it failed with. For the caller's own short jobs. */
  void run(std::function<void()> body) {
    if (!start(std::move(body))) fail(kStatusBusy, "the engine is busy");
    wait();
    std::lock_guard<std::mutex> lock(mutex_);
    const int status = progress_.status;
    progress_ = Progress{};
    check(status, error_);
  }

  bool running() {
    std::lock_guard<std::mutex> lock(mutex_);
    return progress_.state == kJobRunning;
  }

  void stop() { stop_ = true; }

  /** Copies out up to `capacity` new tokens and the state. A job counts as running until its last token is fetched. */
  Progress poll(int32_t* out, int32_t capacity) {
    std::lock_guard<std::mutex> lock(mutex_);
    signalled_ = false;
    Progress progress = progress_;
    const size_t fresh = tokens_.size() - delivered_;
    progress.tokens = static_cast<int32_t>(std::min(fresh, static_cast<size_t>(capacity)));
    std::copy_n(tokens_.begin() + static_cast<std::ptrdiff_t>(delivered_), progress.tokens, out);
    delivered_ += static_cast<size_t>(progress.tokens);
    if (delivered_ < tokens_.size()) {
      progress.state = kJobRunning;
      progress.status = kStatusOk;
      signal();
    }
    return progress;
  }

  /** Why the last job failed. */
  std::string error() {
    std::lock_guard<std::mutex> lock(mutex_);
    return error_;
  }

  // ---- for the job, and for the caller while no job runs

  bool stopping() const { return stop_; }

  /** Changes the visible progress and wakes the caller. */
  template <class Edit>
  void report(Edit&& edit) {
    std::lock_guard<std::mutex> lock(mutex_);
    edit(progress_);
    signal();
  }

  /** Hands one token to the caller, with the progress it makes. */
  template <class Edit>
  void deliver(int32_t token, Edit&& edit) {
    std::lock_guard<std::mutex> lock(mutex_);
    tokens_.push_back(token);
    edit(progress_);
    signal();
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
      std::lock_guard<std::mutex> lock(mutex_);
      progress_.state = status == kStatusOk ? kJobDone : kJobFailed;
      progress_.status = status;
      error_.swap(error);
      changed_.notify_all();
      signal();
    }
  }

  /** One byte until the next poll: whoever reads it polls, and then sees all there is. */
  void signal() {
    if (!signalled_) channel_.signal();
    signalled_ = true;
  }

  Channel& channel_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<void()> body_;
  Progress progress_{};
  std::vector<int32_t> tokens_;  // of this job; the first delivered_ have been fetched
  size_t delivered_ = 0;
  std::string error_;
  std::atomic<bool> stop_{false};
  bool quit_ = false;
  bool signalled_ = false;
  std::thread thread_;  // last: it uses all of the above
};
