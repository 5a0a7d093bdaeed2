// The kernels of this library, one for each instruction set it was built for, and which of them this machine runs.
#pragma once
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <string>
#include <vector>

#include "host/backend.h"
#include "lib/entry.h"

// Weak: a build may leave paths out, and then they are null.
#define KERNEL_PATH(isa) extern "C" __attribute__((weak)) const Kernel kernel_##isa
KERNEL_PATH(plain);
#if defined(__x86_64__)
KERNEL_PATH(avx2);
KERNEL_PATH(avx512);
KERNEL_PATH(avx512bf16);
#endif

struct Path {
  int isa;  // EngineOptions.isa
  const char* name;
  const Kernel* kernel;
  bool runs_here;
};

#if defined(__x86_64__)
/** __builtin_cpu_supports("f16c"), which clang before 19 does not know. Only asked where AVX2 is, whose state the system then keeps. */
inline bool has_f16c() {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

/** Best first. */
inline std::vector<Path> paths() {
  std::vector<Path> found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  found.push_back({4, "AVX-512-BF16", &kernel_avx512bf16, &kernel_avx512bf16 && avx512 && __builtin_cpu_supports("avx512bf16") &&
                                                               __builtin_cpu_supports("avx512vnni")});
  found.push_back({3, "AVX-512", &kernel_avx512, &kernel_avx512 && avx512});
  found.push_back({2, "AVX2", &kernel_avx2, &kernel_avx2 && avx2});
#endif
  found.push_back({1, "plain C++", &kernel_plain, &kernel_plain != nullptr});
  return found;
}

inline int choose_path(int isa, Path* chosen, std::string* error) {
  std::string here;
  for (const Path& path : paths()) {
    if (path.runs_here && (isa == 0 || isa == path.isa)) {
      *chosen = path;
      return kStatusOk;
    }
    if (path.isa == isa) {
      *error = std::string("the ") + path.name + " path was asked for, but " +
               (path.kernel ? "this CPU lacks it" : "the library was built without it");
    }
    if (path.runs_here) here += (here.empty() ? "" : ", ") + std::string(path.name) + " (" + std::to_string(path.isa) + ")";
  }
  if (error->empty()) *error = isa == 0 ? "the library has no code for this CPU" : "no CPU path has the number " + std::to_string(isa);
  *error += here.empty() ? "; build it on this machine" : "; it can run " + here;
  return kStatusBadArgument;
}
