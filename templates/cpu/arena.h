// Memory of an engine: one mapping, from which all that it needs is cut when it is made.
#pragma once
#include <sys/mman.h>

#include <cstdint>

constexpr int64_t kPage = 4096;

/** One anonymous mapping, cut into aligned pieces; its pages are zero until touched. */
class Arena {
 public:
  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() {
    if (base_) munmap(base_, size_);
  }

  bool map(int64_t size) {
    void* base = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return false;
    base_ = static_cast<char*>(base);
    size_ = size;
    madvise(base_, size_, MADV_HUGEPAGE);  // advice only: small pages cost TLB misses, nothing else
    return true;
  }

  template <class T> T* take(int64_t bytes) {
    T* piece = reinterpret_cast<T*>(base_ + used_);
    used_ += rounded(bytes);
    return piece;
  }

  static int64_t rounded(int64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

 private:
  char* base_ = nullptr;
  int64_t size_ = 0;
  int64_t used_ = 0;
};
