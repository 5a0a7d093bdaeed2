// How many threads run a pass: the whole team, or one of it while others have the cores that the team would need.
#pragma once
#include <algorithm>
#include <cstdint>

/** A team whose thread has no core waits for it at the next barrier, a time slice of the scheduler. Where its threads together compute for less
 *  time than passes take, one thread that keeps its core is faster: it then runs them alone, and the team is tried again after a pause, which
 *  doubles as long as nothing has changed. Which of them runs a pass changes no bit of it. All times are nanoseconds. */
class TeamSize {
 public:
  explicit TeamSize(int threads) : threads_(threads) {}

  /** Threads of the pass that begins now. */
  int next(int64_t now) {
    if (!whole_ && now >= resume_) whole_ = true;
    return whole_ ? threads_ : 1;
  }

  /** A pass of several threads has ended. @param took from its begin to its end @param computed by its threads, each without what it waited */
  void passed(int64_t now, int64_t took, int64_t computed) {
    ++passes_;
    took_ += took;
    computed_ += computed;
    if (passes_ < kPasses || took_ < kSlices) return;
    whole_ = computed_ >= took_;
    resume_ = now + pause_;
    pause_ = whole_ ? kLeastPause : std::min(2 * pause_, kMostPause);
    passes_ = took_ = computed_ = 0;
  }

 private:
  /** What one looks at is several passes, and several slices, be they of 4 ms. */
  static constexpr int64_t kPasses = 8, kSlices = 20'000'000;
  static constexpr int64_t kLeastPause = 50'000'000, kMostPause = 3'200'000'000;

  int threads_;
  bool whole_ = true;
  int64_t resume_ = 0;  // when the team is tried again
  int64_t pause_ = kLeastPause;  // the next one
  int64_t passes_ = 0, took_ = 0, computed_ = 0;  // of the team, since one looked
};
