#include "fiber.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <vector>

#include "launch.h"

#if !defined(__x86_64__)
#error "the switch is written for x86-64"
#endif

// What the callee saves; the control words of floating point are the same in all fibers.
asm(R"(
.text
.globl emu_switch
.hidden emu_switch
.type emu_switch, @function
emu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
.globl emu_resume
.hidden emu_resume
.type emu_resume, @function
emu_resume:
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");

namespace emu {

constexpr size_t kStackGuard = 4096;

namespace {

/** Each is two mappings, of which Linux gives a process 65,530 (vm.max_map_count). */
struct Stacks {
  std::vector<char*> all;
  ~Stacks() {
    for (char* const stack : all) munmap(stack - kStackGuard, kStackGuard + kStackBytes);
  }
};

}  // namespace

char* stack_of(int number) {
  static thread_local Stacks stacks;
  while (int(stacks.all.size()) <= number) {
    void* const memory = mmap(nullptr, kStackGuard + kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, kStackGuard, PROT_NONE) != 0)
      fail("there is no memory for the stack of thread %zu: %s", stacks.all.size(), strerror(errno));
    stacks.all.push_back(static_cast<char*>(memory) + kStackGuard);
  }
  return stacks.all[number];
}

void* start_of(char* stack, void (*entry)()) {
  // entry begins as if it had been called: the stack pointer is 8 below a multiple of 16. Stacks begin at different lines of the cache.
  const size_t color = reinterpret_cast<uintptr_t>(stack) / (kStackGuard + kStackBytes) % 16 * 128;
  auto* const top = reinterpret_cast<void**>(stack + kStackBytes - 64 - color);
  top[-1] = nullptr;
  top[-2] = reinterpret_cast<void*>(entry);
  void** const at = top - 2 - 6;
  for (int i = 0; i < 6; ++i) at[i] = nullptr;
  return at;
}

}  // namespace emu
