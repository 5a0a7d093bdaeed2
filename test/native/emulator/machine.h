// The GPU that is emulated; whoever links a library defines it.
#pragma once

struct EmulatedMachine {
  int multiprocessors;
  int shared_bytes;  // of a block
};
extern const EmulatedMachine emulated_machine;
