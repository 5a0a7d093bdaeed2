// Copies into shared memory that go on while their thread does: cp.async with its groups, bulk copies, and the barriers they arrive at.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace emu {

struct Thread;

/** One cp.async. */
struct Copy {
  char* to;
  const char* from;
  int bytes, taken;  // taken: that are read, zeros behind them
  bool done;
};

/** What a thread has begun to copy, in order. A copy lands as late as it may, or at once: the seed decides. */
struct Copies {
  std::vector<Copy> all;
  size_t landed = 0;           // all before are done
  std::vector<size_t> groups;  // where committed groups end
  size_t waited = 0;           // groups that are done
};

void begin_copy(char* to, const char* from, int bytes, int taken);
void end_group();
/** Returns when at most `left` groups of this thread are under way. */
void wait_groups(int left);
/** Lands everything that a thread has begun. */
void land_all(Thread& thread);

// ---- mbarriers, 64 bits of shared memory

void init_barrier(char* barrier, uint32_t count);
void arrive(char* barrier, uint32_t count);
void expect_bytes(char* barrier, uint32_t bytes);
/** Whether the phase of a parity is over. */
bool is_past(const char* barrier, unsigned parity);
/** Arrives when what this thread has begun to copy is there; `counted`: the arrival was not expected before. */
void arrive_copied(char* barrier, bool counted);
/** Bytes that a barrier expects are there. */
void land_bytes(char* barrier, uint32_t bytes);
/** The copy engine: the barrier hears of the bytes when they are there. */
void bulk_copy(char* to, const char* from, uint32_t bytes, char* barrier);

}  // namespace emu
