// Block, one thread of the team that runs a pass, and the team's barrier.
#pragma once
#include <linux/futex.h>
#include <limits.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/profile.h"
#include "lib/types.h"

/** Turns a waiting thread spins, about 50 us, before it sleeps: with more threads than cores, spinning only delays the others. */
constexpr int kSpins = 2000;

/** A word that threads wait on; waking costs a system call only when someone sleeps. */
struct alignas(64) Signal {
  uint32_t value;
  uint32_t sleepers;
};

struct Row;  // host/row.h

/** What a token is chosen by beside its logits. */
struct Choice {
  const float* bias = nullptr;     // [kVocab] added to them; null: nothing
  const uint32_t* mask = nullptr;  // a bit for each token that may be chosen; null: all may
};

struct Team {
  int count;  // threads of the pass
  alignas(64) uint32_t arrived;
  Signal round;
  const int* drafts = nullptr;  // [draft_count] of the pass, its tokens from the second on, each checked against the token chosen before it
  int draft_count = 0;          // 0: the pass checks none
  const Row* rows = nullptr;    // [tokens] of a pass in which each token has a sequence of its own; else null
  int64_t sequence_bytes = 0;   // from one sequence of the cache to the next
  const Choice* choices = nullptr;  // of the token behind each row of logits. What may_choose calls may change them
  bool (*may_choose)(void*) = nullptr;  // called with `asked` in front of the choice of a pass; null: a token is chosen
  void* asked = nullptr;
  bool chooses = true;  // what it said
};

struct Block {
  Team* team;
  int number;
  float* scratch;  // [kScratchFloats + kLibScratchFloats], 128-byte aligned
  Track track{};
  int64_t turns = 0;     // it has spun at barriers of the pass
  int64_t computed = 0;  // its processor time in the pass up to the last barrier, without those turns [ns]

  __attribute__((always_inline)) int index() const { return number; }
  __attribute__((always_inline)) int count() const { return team->count; }
};

DEVICE void spin_pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/** Returns when signal.value is not `seen` any more: how many turns it spun. */
DEVICE int wait_change(Signal& signal, uint32_t seen) {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (__atomic_load_n(&signal.value, __ATOMIC_ACQUIRE) != seen) return spin;
    spin_pause();
  }
  __atomic_fetch_add(&signal.sleepers, 1, __ATOMIC_SEQ_CST);
  while (__atomic_load_n(&signal.value, __ATOMIC_SEQ_CST) == seen) {
    syscall(SYS_futex, &signal.value, FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
  }
  __atomic_fetch_sub(&signal.sleepers, 1, __ATOMIC_SEQ_CST);
  return kSpins;
}

/** Adds one to signal.value and wakes whoever waits for that. */
DEVICE void raise(Signal& signal) {
  __atomic_fetch_add(&signal.value, 1, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&signal.sleepers, __ATOMIC_SEQ_CST) != 0) {
    syscall(SYS_futex, &signal.value, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
  }
}

/** All blocks arrive before one leaves; what was written before is visible after. */
DEVICE void grid_barrier(Block& b) {
  Team& team = *b.team;
  track_arrival(b.track);
  const uint32_t seen = __atomic_load_n(&team.round.value, __ATOMIC_ACQUIRE);
  const uint32_t count = (uint32_t)team.count;  // before the arrival: behind it another pass may begin
  if (__atomic_add_fetch(&team.arrived, 1, __ATOMIC_ACQ_REL) == count) {
    __atomic_store_n(&team.arrived, 0, __ATOMIC_RELAXED);
    raise(team.round);
  } else {
    b.turns += wait_change(team.round, seen);
  }
  track_departure(b.track);
}

/** Whether the pass chooses tokens, which all blocks know once block 0 has asked. */
DEVICE bool may_choose(Block& b) {
  Team& team = *b.team;
  if (!team.may_choose) return true;
  if (b.index() == 0) team.chooses = team.may_choose(team.asked);
  grid_barrier(b);
  return team.chooses;
}

/** A pass begins, or a stage of it: for profiles. */
template <class Pass> DEVICE void begin_pass(Block& b, const Pass& pass) { track_pass(b.track, pass.position); }
template <class Stage> DEVICE void begin_stage(Block& b, Stage stage, int layer) { track_stage(b.track, (int)stage, layer); }

/** The rows of n that this block takes; all blocks cover n exactly. */
DEVICE Range block_range(Block& b, int n) {
  return {(int)((int64_t)n * b.index() / b.count()), (int)((int64_t)n * (b.index() + 1) / b.count())};
}

/** Whether each token is computed as in a pass of its own, to the last bit: the only way, and where drafts are checked. Rows are computed as those
 *  of several tokens, be it one: how many there are then changes no bit of any. */
DEVICE bool one_by_one(const Block& b, int tokens) { return !b.team->rows && (tokens == 1 || b.team->draft_count > 0); }

// A block is one thread, so its warps and threads are the turns of a loop.
DEVICE constexpr int lane() { return 0; }

template <class Body> DEVICE void for_warps(Block&, int n, Body&& body) {
  for (int i = 0; i < n; ++i) body(i);
}

template <class Body> DEVICE void for_threads(Block&, int n, Body&& body) {
  for (int i = 0; i < n; ++i) body(i);
}
