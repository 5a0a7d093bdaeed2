#include "meetings.h"

#include <utility>

#include "launch.h"

namespace emu {

namespace {

bool complete(const Meeting& m, const Warp& warp) { return (m.mask & ~warp.exited & ~m.arrived) == 0; }

/** Does what all have come for, and wakes all but `self`. */
void hold(Warp& warp, size_t number, const Thread* self) {
  const Meeting& m = warp.meetings[number];
  m.combine(m.records, m.arrived);
  const uint32_t arrived = m.arrived;
  std::swap(warp.meetings[number], warp.meetings.back());
  warp.meetings.pop_back();
  progress();
  for (int lane = 0; lane < 32; ++lane)
    if ((arrived >> lane & 1) && warp.lanes + lane != self) wake(warp.lanes + lane);
}

void open(Crossing& crossing) {
  std::vector<Thread*> waiting;
  waiting.swap(crossing.waiting);
  crossing.arrived = 0;
  crossing.begun = false;
  progress();
  for (Thread* const thread : waiting) wake(thread);
}

bool full(const Crossing& c, const Block& block) { return c.begun && c.arrived >= (c.wanted > 0 ? c.wanted : block.live); }

}  // namespace

void meet(uint32_t mask, const void* kind, Combine combine, void* record, const Place& place) {
  Thread& self = *current;
  Warp& warp = *self.warp;
  const uint32_t bit = 1u << self.lane;
  current->place = place;
  if ((mask & bit) == 0) fail("%s: the mask %08x lacks the calling lane", place.what, mask);
  size_t number = 0;
  for (; number < warp.meetings.size(); ++number) {
    const Meeting& m = warp.meetings[number];
    if (m.mask == mask && m.kind == kind && (m.arrived & bit) == 0) break;
  }
  if (number == warp.meetings.size()) warp.meetings.push_back({kind, combine, mask, 0, {}});
  Meeting& m = warp.meetings[number];
  m.arrived |= bit;
  m.records[self.lane] = record;
  if (complete(m, warp))
    hold(warp, number, &self);
  else
    sleep(place);
}

void cross(int barrier, int count, bool wait, const Place& place) {
  current->place = place;
  if (barrier < 0 || barrier > 15) fail("%s: there is no barrier %d", place.what, barrier);
  if (count % 32 != 0) fail("%s: %d threads are no whole warps", place.what, count);
  Block& block = *current->block;
  Crossing& c = block.barriers[barrier];
  if (c.begun && c.wanted != count) fail("%s: barrier %d is for %d threads and for %d", place.what, barrier, c.wanted, count);
  c.begun = true;
  c.wanted = count;
  ++c.arrived;
  if (full(c, block)) {
    open(c);
  } else if (wait) {
    c.waiting.push_back(current);
    sleep(place);
  }
}

void leave_meetings(Thread& thread) {
  Warp& warp = *thread.warp;
  warp.exited |= 1u << thread.lane;
  for (size_t i = warp.meetings.size(); i-- > 0;)
    if (complete(warp.meetings[i], warp)) hold(warp, i, nullptr);
  for (Crossing& c : thread.block->barriers)
    if (c.wanted == 0 && c.arrived > 0 && full(c, *thread.block)) open(c);
}

}  // namespace emu
