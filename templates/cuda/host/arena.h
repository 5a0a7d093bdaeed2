// One allocation for everything, cut into pieces.
#pragma once
#include <cstdint>
#include <cstdio>
#include <string>

constexpr int64_t kAlignment = 256;

/** Where the next piece begins. One that begins at 0 measures: what has been taken is then the size of the allocation. */
struct Arena {
  uintptr_t at = 0;

  /** A piece of `count` elements. */
  template <class T>
  T* take(int64_t count) {
    T* const piece = reinterpret_cast<T*>(at);
    at += (count * int64_t{sizeof(T)} + kAlignment - 1) / kAlignment * kAlignment;
    return piece;
  }
};

inline std::string gibibytes(int64_t bytes) {
  char text[32];
  snprintf(text, sizeof text, "%.2f GiB", static_cast<double>(bytes) / (1 << 30));
  return text;
}
