// A launch on the CPU: each CUDA thread is a fiber, and one thread of the host runs them in turns that a seed decides.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "copies.h"
#include "meetings.h"
#include "shared.h"
#include "warpgroup.h"

namespace emu {

struct Size {
  unsigned x = 1, y = 1, z = 1;
};

struct Block;
struct Warp;

/** Where a fiber stands, for reports. */
struct Place {
  const char* what = "its beginning";
  const char* file = "";
  int line = 0;
};

struct Thread {
  Size index;
  Block* block;
  Warp* warp;
  int lane;
  bool done;
  void* stack;  // where it stands while another runs
  Place place;
  Copies copies;
  ProductGroups products;
};

struct Warp {
  Thread* lanes;
  uint32_t exited;  // lanes that have ended, or never were
  std::vector<Meeting> meetings;
};

struct Block {
  Size index;
  int number;
  int live;  // threads that have not ended
  Window shared;
  Crossing barriers[16];
  std::vector<Warp> warps;
};

struct Launch {
  Size grid, size;
  size_t shared_bytes;  // dynamic
  std::function<void()> body;
};

/** Runs a launch to its end, or until it fails: why, or nothing. One at a time in a process. */
std::string run(const Launch& launch);

/** The thread that runs. */
extern Thread* current;
extern const Launch* launched;

// ---- for what threads call

/** The launch ends here. */
[[noreturn]] void fail(const char* format, ...);
/** Another thread runs, and this one when it is woken. */
void sleep(const Place& place);
void wake(Thread* thread);
/** Others run first: by whoever looks whether something has come. */
void poll(const Place& place);
/** Something has happened that others may wait for. */
void progress();
/** Does something after some turns of threads. */
void later(std::function<void()> work);
uint64_t random_bits();
/** Turns so far: the clock of everything. */
uint64_t turns();
uint64_t nanoseconds();
/** All blocks meet. */
void sync_grid(const Place& place);

}  // namespace emu
