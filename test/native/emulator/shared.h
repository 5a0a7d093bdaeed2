// The shared memory of a block: static variables, then what the launch asked for, between pages that nothing may touch.
#pragma once
#include <cstddef>
#include <cstdint>

namespace emu {

/** Static shared memory that a kernel may have [bytes]. */
constexpr size_t kStaticBytes = 48 << 10;

/** One block's, seen as 32-bit addresses from 0. */
struct Window {
  char* base = nullptr;
  size_t size = 0;           // up to the page behind it
  size_t dynamic = 0;        // address of the dynamic part
  size_t dynamic_bytes = 0;
};

/** A window full of NaNs; `number` counts blocks, whose memory is kept for later launches. */
Window window_of(int number, size_t dynamic_bytes);
/** The name of what was written behind its end, or null. */
const char* overrun(const Window& window);

/** Registers a static variable of all blocks: its address. */
size_t place_variable(const char* name, size_t bytes, size_t alignment);
/** Where `bytes` at a shared address of the current block are; the launch fails when they are no variable's. */
char* shared_memory(uint32_t address, size_t bytes);
/** The address of a pointer into the current block's shared memory; the launch fails when it is none. */
uint32_t shared_address_of(const void* pointer);
char* variable_at(size_t address);
/** The dynamic part, which is declared with an alignment. */
char* dynamic_memory(size_t alignment);
/** Fails the launch unless `bytes` there are of one allocation of the device or pinned on the host. */
char* global_memory(uint64_t address, size_t bytes);

}  // namespace emu
