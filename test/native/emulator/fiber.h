// Stacks that one thread of the host runs in turns.
#pragma once
#include <cstddef>

/** Saves where this stack stands to *from and goes on with another, where it stands at `to`. */
extern "C" void emu_switch(void** from, void* to);
/** The second half of emu_switch, for a signal's handler that leaves a stack for good: the stack pointer is `to`. */
extern "C" void emu_resume();

namespace emu {

constexpr size_t kStackBytes = 256 << 10;

/** A stack above a page that nothing may touch; kept for later launches of this thread of the host, `number` counts them from 0. */
char* stack_of(int number);
/** What emu_switch continues at: entry() with an empty stack, which must not return. */
void* start_of(char* stack, void (*entry)());

}  // namespace emu
