#include "shared.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <mutex>
#include <vector>

#include "cuda-host/runtime.h"
#include "launch.h"

namespace emu {

namespace {

constexpr size_t kPage = 4096, kGuardBytes = 256 << 10, kFirst = 1024, kZone = 16, kDynamicAlignment = 1024;
constexpr uint32_t kUnwritten = 0x7fffffff;  // a NaN as float, and as two of bf16 or fp16
constexpr unsigned char kZoneByte = 0xc7;

struct Variable {
  const char* name;
  size_t address, bytes;
};
std::vector<Variable> variables;
size_t used = kFirst;  // end of the last variable

struct Memory {
  char* base = nullptr;
  size_t size = 0;
};

size_t up(size_t x, size_t to) { return (x + to - 1) / to * to; }

/** Memory of `size` bytes with pages on either side that nothing may touch. */
Memory guarded(size_t size) {
  void* const all = mmap(nullptr, size + 2 * kGuardBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  char* const base = static_cast<char*>(all) + kGuardBytes;
  if (all == MAP_FAILED || mprotect(base, size, PROT_READ | PROT_WRITE) != 0)
    fail("there is no memory for the shared memory of a block: %s", strerror(errno));
  return {base, size};
}

}  // namespace

size_t place_variable(const char* name, size_t bytes, size_t alignment) {
  const size_t address = up(used + kZone, alignment);
  if (address + bytes > kStaticBytes) fail("static shared memory: %s does not fit into %zu bytes", name, kStaticBytes);
  variables.push_back({name, address, bytes});
  used = address + bytes;
  return address;
}

Window window_of(int number, size_t dynamic_bytes) {
  static std::vector<Memory> kept;
  if (int(kept.size()) <= number) kept.resize(number + 1);
  const size_t size = up(up(kStaticBytes + kZone, 1024) + up(dynamic_bytes, 1024), kPage);
  Memory& memory = kept[number];
  if (memory.size != size) {
    if (memory.base != nullptr) munmap(memory.base - kGuardBytes, memory.size + 2 * kGuardBytes);
    memory = guarded(size);
  }
  for (size_t i = 0; i < size; i += sizeof kUnwritten) memcpy(memory.base + i, &kUnwritten, sizeof kUnwritten);
  memset(memory.base, kZoneByte, kFirst);
  // As near to the pages behind it as its alignment allows.
  const size_t dynamic = (size - dynamic_bytes) / kDynamicAlignment * kDynamicAlignment;
  memset(memory.base + dynamic + dynamic_bytes, kZoneByte, size - dynamic - dynamic_bytes);
  return {memory.base, size, dynamic, dynamic_bytes};
}

const char* overrun(const Window& w) {
  const auto whole = [&](size_t from, size_t to) {
    for (; from < to; ++from)
      if (static_cast<unsigned char>(w.base[from]) != kZoneByte) return false;
    return true;
  };
  if (!whole(0, kFirst)) return "what lies in front of shared memory";
  if (!whole(w.dynamic + w.dynamic_bytes, w.size)) return "what lies behind the dynamic shared memory";
  const auto* const words = reinterpret_cast<const uint32_t*>(w.base);
  size_t end = kFirst;
  for (const Variable& v : variables) {
    for (size_t at = up(end, 4); at + 4 <= v.address; at += 4)
      if (words[at / 4] != kUnwritten) return v.name;
    end = v.address + v.bytes;
  }
  return nullptr;
}

char* shared_memory(uint32_t address, size_t bytes) {
  const Window& w = current->block->shared;
  if (address % bytes != 0 && bytes <= 16) fail("shared memory: address %u is no multiple of %zu", address, bytes);
  const bool is_dynamic = address >= w.dynamic && address + bytes <= w.dynamic + w.dynamic_bytes;
  if (!is_dynamic && !(address >= kFirst && address + bytes <= used)) fail("shared memory: %zu bytes at %u are out of bounds", bytes, address);
  return w.base + address;
}

uint32_t shared_address_of(const void* pointer) {
  const Window& w = current->block->shared;
  const auto* const at = static_cast<const char*>(pointer);
  if (at < w.base || at > w.base + w.size) fail("a pointer that is not into this block's shared memory is made one");
  return uint32_t(at - w.base);
}

char* variable_at(size_t address) { return current->block->shared.base + address; }
char* dynamic_memory(size_t alignment) {
  if (alignment > kDynamicAlignment) fail("dynamic shared memory: an alignment of %zu", alignment);
  return current->block->shared.base + current->block->shared.dynamic;
}

char* global_memory(uint64_t address, size_t bytes) {
  if (bytes <= 16 && address % bytes != 0) fail("global memory: the address ends in %x, no multiple of %zu", unsigned(address & 255), bytes);
  if (!in_allocation(reinterpret_cast<const void*>(address), bytes)) fail("global memory: %zu bytes are out of bounds of all allocations", bytes);
  return reinterpret_cast<char*>(address);
}

}  // namespace emu
