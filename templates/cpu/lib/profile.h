// What a thread of the team did when: events of a library that is built with -DPROFILE=1. Without it nothing of this is left.
#pragma once
#include <time.h>

#include "lib/types.h"

/** [ns] */
DEVICE int64_t clock_now(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#if PROFILE
#include <sched.h>

#include "abi.h"

/** The events of one thread, and the stage that it is in. */
struct Track {
  ProfileEvent* events;  // [capacity]
  int64_t capacity, count, missed;
  int64_t last;  // end of the latest event, or begin of the pass [ns]
  int block, stage, layer, position;
  bool inside;  // a stage has begun, and its barrier has not been reached
  uint32_t passes;  // whose events are all written
};

/** The time since the latest event was a phase of this stage. */
DEVICE void track_mark(Track& t, int phase) {
  const int64_t now = clock_now(CLOCK_MONOTONIC);
  if (t.count == t.capacity) {
    ++t.missed;
  } else {
    t.events[t.count++] = {t.last, now, t.block, kRoleBlock, t.stage, t.layer, phase, t.position};
  }
  t.last = now;
}

DEVICE void track_pass(Track& t, int position) {
  t.last = clock_now(CLOCK_MONOTONIC);
  t.position = position;
  t.inside = false;
}

DEVICE void track_stage(Track& t, int stage, int layer) {
  if (t.inside) track_mark(t, kPhaseCompute);
  t.stage = stage;
  t.layer = layer;
  t.inside = true;
}

/** A barrier is reached. */
DEVICE void track_arrival(Track& t) {
  if (t.inside) track_mark(t, kPhaseCompute);
  t.inside = false;
}

/** All have reached it. */
DEVICE void track_departure(Track& t) { track_mark(t, kPhaseOthers); }

/** The thread writes nothing more of this pass. Others learn of the pass's end before that: they were at the same barrier. */
DEVICE void track_end(Track& t) { __atomic_add_fetch(&t.passes, 1, __ATOMIC_RELEASE); }

/** Returns when the events of so many passes are written. */
DEVICE void track_wait(const Track& t, uint32_t passes) {
  while (__atomic_load_n(&t.passes, __ATOMIC_ACQUIRE) != passes) sched_yield();
}
#else
struct Track {};
DEVICE void track_pass(Track&, int) {}
DEVICE void track_stage(Track&, int, int) {}
DEVICE void track_arrival(Track&) {}
DEVICE void track_departure(Track&) {}
DEVICE void track_end(Track&) {}
#endif
