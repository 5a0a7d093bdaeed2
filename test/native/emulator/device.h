// What CUDA gives a kernel's code, for a compiler of C++ that reads the generated sources; included before them.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <vector_functions.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <utility>

#include "launch.h"
#include "matrix.h"
#include "ptx.h"

#define __CUDACC__ 1
#define __CUDA_ARCH__ EMULATED_ARCH
#undef __forceinline__
#define __forceinline__ inline
#undef __noinline__
#define __noinline__
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __grid_constant__
#define __grid_constant__

// Where a call stands.
#define EMU_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define EMU_PLACE(what) (emu::Place{what, file, line})

// ---- threads

#define threadIdx (emu::current->index)
#define blockIdx (emu::current->block->index)
#define blockDim (emu::launched->size)
#define gridDim (emu::launched->grid)

namespace emu {

/** A static shared variable, one for each place in the sources that declares one. */
template <class T, int Declaration, size_t Alignment>
T& shared(const char* name) {
  static const size_t address = place_variable(name, sizeof(T), std::max(Alignment, alignof(T)));
  return *reinterpret_cast<T*>(variable_at(address));
}

/** What other threads change while this one looks: each look lets others run. */
template <class T>
struct Volatile {
  T value;
  operator T() const {
    poll({"a look at a volatile variable", __builtin_FILE(), __builtin_LINE()});
    return *static_cast<const volatile T*>(&value);
  }
  T operator=(T x) {
    if (value != x) progress();
    return value = x;
  }
};

inline int opposite_clz(uint32_t x) { return x ? __builtin_clz(x) : 32; }

/** A load or store that the hardware does at once. */
template <class T, class Change>
T atomically(T* at, Change&& change) {
  const T before = *at;
  const T after = change(before);
  if (memcmp(&after, &before, sizeof after) != 0) progress();
  *at = after;
  return before;
}

template <class T>
T shuffled(Shuffle kind, uint32_t mask, T value, unsigned lane, int width, const Place& place) {
  const uint64_t got = shuffle(kind, mask, bits_of(value), lane, unsigned(width), nullptr, place);
  T result;
  memcpy(&result, &got, sizeof result);
  return result;
}

}  // namespace emu

inline size_t __cvta_generic_to_global(const void* p) { return reinterpret_cast<size_t>(p); }
inline size_t __cvta_generic_to_shared(const void* p) { return emu::shared_address_of(p); }

// ---- waiting

inline void __syncthreads(EMU_HERE) { emu::cross(0, 0, true, EMU_PLACE("__syncthreads")); }
inline void __syncwarp(unsigned mask = ~0u, EMU_HERE) { emu::sync_warp(mask, EMU_PLACE("__syncwarp")); }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned, EMU_HERE) { emu::poll(EMU_PLACE("__nanosleep")); }
inline long long clock64(EMU_HERE) {
  emu::poll(EMU_PLACE("clock64"));
  return (long long)emu::turns();
}
#define clock clock64
[[noreturn]] inline void __trap() { emu::fail("__trap"); }

// ---- warps

template <class T>
T __shfl_sync(unsigned mask, T x, int lane, int width = 32, EMU_HERE) {
  return emu::shuffled(emu::Shuffle::kIndex, mask, x, unsigned(lane), width, EMU_PLACE("__shfl_sync"));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T x, int lane, int width = 32, EMU_HERE) {
  return emu::shuffled(emu::Shuffle::kXor, mask, x, unsigned(lane), width, EMU_PLACE("__shfl_xor_sync"));
}
template <class T>
T __shfl_up_sync(unsigned mask, T x, unsigned by, int width = 32, EMU_HERE) {
  return emu::shuffled(emu::Shuffle::kUp, mask, x, by, width, EMU_PLACE("__shfl_up_sync"));
}
template <class T>
T __shfl_down_sync(unsigned mask, T x, unsigned by, int width = 32, EMU_HERE) {
  return emu::shuffled(emu::Shuffle::kDown, mask, x, by, width, EMU_PLACE("__shfl_down_sync"));
}
inline unsigned __ballot_sync(unsigned mask, int vote, EMU_HERE) { return emu::ballot(mask, vote != 0, EMU_PLACE("__ballot_sync")); }
inline int __any_sync(unsigned mask, int vote, EMU_HERE) { return emu::ballot(mask, vote != 0, EMU_PLACE("__any_sync")) != 0; }
inline int __all_sync(unsigned mask, int vote, EMU_HERE) { return (emu::ballot(mask, vote != 0, EMU_PLACE("__all_sync")) | ~mask) == ~0u; }
template <class T>
unsigned __match_any_sync(unsigned mask, T x, EMU_HERE) {
  return emu::match(mask, emu::bits_of(x), EMU_PLACE("__match_any_sync"));
}
/** Lanes run one by one. */
inline unsigned __activemask() { return 1u << emu::current->lane; }

// ---- memory

template <class T>
T __ldg(const T* p) {
  emu::global_memory(reinterpret_cast<uint64_t>(p), sizeof(T));
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  return __ldg(p);
}
template <class T>
T __ldca(const T* p) {
  return __ldg(p);
}
template <class T>
T __ldcs(const T* p) {
  return __ldg(p);
}
template <class T>
void __stcg(T* p, T x) {
  emu::global_memory(reinterpret_cast<uint64_t>(p), sizeof(T));
  *p = x;
  emu::progress();
}
template <class T>
void __stwt(T* p, T x) {
  __stcg(p, x);
}

template <class T, class U>
T atomicAdd(T* at, U x) {
  return emu::atomically(at, [=](T before) { return T(before + T(x)); });
}
template <class T, class U>
T atomicMax(T* at, U x) {
  return emu::atomically(at, [=](T before) { return std::max(before, T(x)); });
}
template <class T, class U>
T atomicMin(T* at, U x) {
  return emu::atomically(at, [=](T before) { return std::min(before, T(x)); });
}
template <class T, class U>
T atomicExch(T* at, U x) {
  return emu::atomically(at, [=](T) { return T(x); });
}
template <class T, class U>
T atomicOr(T* at, U x) {
  return emu::atomically(at, [=](T before) { return T(before | T(x)); });
}
template <class T, class U>
T atomicAnd(T* at, U x) {
  return emu::atomically(at, [=](T before) { return T(before & T(x)); });
}
template <class T, class U, class V>
T atomicCAS(T* at, U old, V x, EMU_HERE) {
  const T before = emu::atomically(at, [=](T before) { return before == T(old) ? T(x) : before; });
  if (before != T(old)) emu::poll(EMU_PLACE("atomicCAS"));
  return before;
}

// ---- numbers

template <class To, class From>
To emu_as(From x) {
  static_assert(sizeof(To) == sizeof(From));
  To y;
  memcpy(&y, &x, sizeof y);
  return y;
}
inline float __int_as_float(int x) { return emu_as<float>(x); }
inline float __uint_as_float(unsigned x) { return emu_as<float>(x); }
inline int __float_as_int(float x) { return emu_as<int>(x); }
inline unsigned __float_as_uint(float x) { return emu_as<unsigned>(x); }
inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline float __frsqrt_rn(float x) { return 1 / sqrtf(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1 / x; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline int __clz(int x) { return emu::opposite_clz(uint32_t(x)); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned how) {
  const uint64_t both = uint64_t(y) << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) result |= unsigned(both >> 8 * (how >> 4 * i & 7) & 255) << 8 * i;
  return result;
}

template <class T, class U>
constexpr std::common_type_t<T, U> max(T x, U y) {
  using C = std::common_type_t<T, U>;
  return C(x) < C(y) ? C(y) : C(x);
}
template <class T, class U>
constexpr std::common_type_t<T, U> min(T x, U y) {
  using C = std::common_type_t<T, U>;
  return C(y) < C(x) ? C(y) : C(x);
}

// ---- launches

namespace emu {

/** Starts a launch in the order of a stream. */
cudaError_t start(cudaStream_t stream, Launch launch);
/** Tells how a kernel that is known by its address alone takes its arguments. */
void know(const void* kernel, std::function<std::function<void()>(void** arguments)> bind);

template <class... A, size_t... I>
std::function<void()> bound(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
  // Copied when the launch is asked for, as CUDA does.
  return [kernel, copies = std::tuple<std::remove_const_t<A>...>(*static_cast<A*>(arguments[I])...)] { kernel(std::get<I>(copies)...); };
}

/** A kernel's address, which launches and attributes know it by. */
template <class... A>
const void* kernel_of(void (*kernel)(A...)) {
  const auto* const address = reinterpret_cast<const void*>(kernel);
  know(address, [kernel](void** arguments) { return bound(kernel, arguments, std::index_sequence_for<A...>()); });
  return address;
}

/** kernel<<<grid, size, shared, stream>>>(arguments). */
template <class Kernel>
auto launcher(Kernel kernel, dim3 grid, dim3 size, size_t shared_bytes = 0, cudaStream_t stream = nullptr) {
  return [=](auto... arguments) {
    start(stream, {{grid.x, grid.y, grid.z}, {size.x, size.y, size.z}, shared_bytes, [=] { kernel(arguments...); }});
  };
}

}  // namespace emu
