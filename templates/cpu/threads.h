// The threads that run passes: started with an engine, ended with it, and asleep between passes that are long apart.
#pragma once
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "host/backend.h"
#include "lib/entry.h"
#include "lib/team.h"
#include "lib/team_size.h"

/** A team and its blocks, one of the thread that asks for a pass and one of each thread that is started here. */
class Threads {
 public:
  using Run = void (*)(const Call&, Block&);

  Threads() = default;
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
  ~Threads() {
    stop_ = true;
    raise(start_);
    for (std::thread& thread : threads_) thread.join();
  }

  /** Starts them, once. @param scratch of each block, as many as threads @returns kStatusDevice where the system has no more threads */
  int start(Run run, const std::vector<float*>& scratch, std::string* error) {
    run_ = run;
    const int count = team.count = static_cast<int>(scratch.size());
    size_ = TeamSize(count);
    turn_ = turn_time();
    blocks_.resize(count);
    for (int i = 0; i < count; ++i) blocks_[i] = {&team, i, scratch[i]};
#if PROFILE
    for (int i = 0; i < count; ++i) {
      events_.emplace_back(new ProfileEvent[kTrackEvents]);  // not touched: pages come as events do
      blocks_[i].track = {events_[i].get(), kTrackEvents, 0, 0, 0, i, 0, 0, 0, false};
    }
#endif
    try {
      for (int i = 1; i < count; ++i) threads_.emplace_back(&Threads::serve, this, i);
    } catch (const std::system_error& failure) {
      *error = "cannot start thread " + std::to_string(threads_.size() + 2) + " of " + std::to_string(count) + ": " + failure.what();
      return kStatusDevice;
    }
    return kStatusOk;
  }

  /** Of a pass: the caller says the rest of it, apart from `count`. */
  Team team{};

  size_t count() const { return blocks_.size(); }

  /** Runs a pass with the whole team, or alone; the caller is block 0. */
  void run(const Call& call) {
    const int64_t begin = clock_now(CLOCK_MONOTONIC);
    const int count = team.count = size_.next(begin);
    running_ = &call;
    apart_ = 0;
    if (static_cast<size_t>(count) == blocks_.size()) raise(start_);
    run_block(blocks_[0]);
#if !PROFILE  // which is of the threads that were asked for
    if (count == 1) return;
    int64_t computed = 0;
    for (const Block& block : blocks_) computed += block.computed;
    const int64_t end = clock_now(CLOCK_MONOTONIC);
    size_.passed(end, end - begin - apart_, computed);
#endif
  }

  /** So much of the pass that runs is nobody's computing [ns]: told by block 0. */
  void set_apart(int64_t time) { apart_ = time; }

#if PROFILE
  /** Moves what the blocks have recorded to the end of `events`. @param missed increased by those that there was no room for */
  void take_events(std::vector<ProfileEvent>* events, int64_t* missed) {
    for (Block& block : blocks_) {
      Track& track = block.track;
      track_wait(track, start_.value);
      events->insert(events->end(), track.events, track.events + track.count);
      *missed += track.missed;
      track.count = track.missed = 0;
    }
  }
#endif

 private:
  /** A block of the pass. What it says of itself the others may read behind the last barrier. */
  void run_block(Block& block) {
    block.turns = 0;
    const int64_t begin = clock_now(CLOCK_THREAD_CPUTIME_ID);
    run_(*running_, block);
    const int64_t end = clock_now(CLOCK_THREAD_CPUTIME_ID);
    block.computed = end - begin - static_cast<int64_t>(static_cast<double>(block.turns) * turn_);
    grid_barrier(block);
    track_end(block.track);
  }

  /** A thread of the team: waits for passes and runs its block of each. */
  void serve(int number) {
    for (uint32_t seen = 0;; ++seen) {
      wait_change(start_, seen);
      if (stop_) return;
      run_block(blocks_[number]);
    }
  }

  /** Processor time of a turn [ns], of as many as a thread spins. */
  static double turn_time() {
    Signal never{};
    const int64_t begin = clock_now(CLOCK_THREAD_CPUTIME_ID);
    for (int spin = 0; spin < kSpins && __atomic_load_n(&never.value, __ATOMIC_ACQUIRE) == 0; ++spin) spin_pause();
    return static_cast<double>(clock_now(CLOCK_THREAD_CPUTIME_ID) - begin) / kSpins;
  }

#if PROFILE
  /** Events of a thread that there is room for: 160 MB, of which only those that are recorded take memory. */
  static constexpr int64_t kTrackEvents = int64_t{1} << 22;
#endif

  Run run_ = nullptr;
  std::vector<Block> blocks_;
#if PROFILE
  std::vector<std::unique_ptr<ProfileEvent[]>> events_;  // of each block
#endif
  std::vector<std::thread> threads_;
  TeamSize size_{1};
  double turn_ = 0;  // processor time of one that a thread spins [ns]
  Signal start_{};   // raised for every pass of the whole team, and to stop
  bool stop_ = false;
  const Call* running_ = nullptr;
  int64_t apart_ = 0;  // of the pass that runs [ns]
};
