#include "copies.h"

#include <cstring>

#include "launch.h"

namespace emu {

namespace {

void land(Copy& copy) {
  if (copy.done) return;
  memcpy(copy.to, copy.from, copy.taken);
  memset(copy.to + copy.taken, 0, copy.bytes - copy.taken);
  copy.done = true;
}

void land_until(Copies& copies, size_t end) {
  for (; copies.landed < end; ++copies.landed) land(copies.all[copies.landed]);
  progress();
}

/** The fields of a barrier's word. */
struct Word {
  static constexpr uint64_t kMark = uint64_t{0b10} << 62;
  int32_t pending, expected, bytes;
  unsigned phase;
};

Word read(const char* at) {
  uint64_t bits;
  memcpy(&bits, at, 8);
  if (bits >> 62 != Word::kMark >> 62) fail("an mbarrier is used that was not made, or was overwritten");
  return {int32_t(bits & 0xfffff), int32_t(bits >> 20 & 0xfffff), int32_t(uint32_t(bits >> 40 & 0x1fffff) << 11) >> 11, unsigned(bits >> 61 & 1)};
}

void write(char* at, const Word& w) {
  const uint64_t bits = Word::kMark | uint64_t(w.phase) << 61 | (uint64_t(uint32_t(w.bytes)) & 0x1fffff) << 40 | uint64_t(w.expected) << 20 | uint64_t(w.pending);
  memcpy(at, &bits, 8);
}

/** Adds to what is waited for; the phase ends when that is nothing. */
void change(char* at, int32_t arrivals, int32_t bytes) {
  Word w = read(at);
  w.pending -= arrivals;
  w.bytes += bytes;
  if (w.pending < 0) fail("more arrive at an mbarrier than the %d it expects", w.expected);
  if (w.pending == 0 && w.bytes == 0) {
    w.phase ^= 1;
    w.pending = w.expected;
  }
  write(at, w);
  progress();
}

}  // namespace

void begin_copy(char* to, const char* from, int bytes, int taken) {
  Copies& copies = current->copies;
  copies.all.push_back({to, from, bytes, taken, false});
  if (random_bits() % 4 == 0) land(copies.all.back());
}

void end_group() { current->copies.groups.push_back(current->copies.all.size()); }

void wait_groups(int left) {
  Copies& copies = current->copies;
  while (int(copies.groups.size() - copies.waited) > left) land_until(copies, copies.groups[copies.waited++]);
  if (copies.waited == copies.groups.size() && copies.landed == copies.all.size()) {
    copies.all.clear();
    copies.groups.clear();
    copies.landed = copies.waited = 0;
  }
}

void land_all(Thread& thread) { land_until(thread.copies, thread.copies.all.size()); }

void init_barrier(char* barrier, uint32_t count) {
  if (count < 1 || count > 0xfffff) fail("an mbarrier for %u arrivals", count);
  write(barrier, {int32_t(count), int32_t(count), 0, 0});
  progress();
}

void arrive(char* barrier, uint32_t count) { change(barrier, int32_t(count), 0); }
void expect_bytes(char* barrier, uint32_t bytes) {
  Word w = read(barrier);
  w.bytes += int32_t(bytes);
  write(barrier, w);
}
bool is_past(const char* barrier, unsigned parity) { return read(barrier).phase != (parity & 1); }

void arrive_copied(char* barrier, bool counted) {
  if (counted) change(barrier, -1, 0);
  Thread* const thread = current;
  // Groups are not used beside it: the list may be emptied once all of it has landed.
  const size_t end = thread->copies.all.size();
  later([=] {
    if (thread->copies.all.size() >= end) land_until(thread->copies, end);
    change(barrier, 1, 0);
    if (thread->copies.landed == thread->copies.all.size() && thread->copies.groups.empty()) thread->copies.all.clear(), thread->copies.landed = 0;
  });
}

void land_bytes(char* barrier, uint32_t bytes) { change(barrier, 0, -int32_t(bytes)); }

void bulk_copy(char* to, const char* from, uint32_t bytes, char* barrier) {
  later([=] {
    memcpy(to, from, bytes);
    change(barrier, 0, -int32_t(bytes));
  });
}

}  // namespace emu
