// Where threads wait for each other: the lanes of a warp at a collective, those of a block at a barrier.
#pragma once
#include <cstdint>
#include <vector>

namespace emu {

struct Thread;
struct Place;

/** What the last lane does for all: records of lanes, null where a lane is not part of it. */
using Combine = void (*)(void* const (&records)[32], uint32_t mask);

struct Meeting {
  const void* kind;
  Combine combine;
  uint32_t mask, arrived;
  void* records[32];
};

/** Lanes of a mask bring their records to the same kind of collective; returns when `combine` has seen all of them. */
void meet(uint32_t mask, const void* kind, Combine combine, void* record, const Place& place);

/** A barrier of a block, between two crossings. */
struct Crossing {
  int arrived = 0, wanted = 0;
  bool begun = false;
  std::vector<Thread*> waiting;
};

/** bar.sync and bar.arrive; count 0: all threads that have not ended. */
void cross(int barrier, int count, bool wait, const Place& place);

/** A thread has ended: nobody waits for it any more. */
void leave_meetings(Thread& thread);

}  // namespace emu
