// Loads that state address space and cache policy, and the conversions between storage types and float.
#pragma once
#include <type_traits>

#include "types.cuh"

#define DEVICE __device__ __forceinline__
/** What is called from many places, or seldom: code that is not fetched again for each of them. */
#define ONCE __device__ __noinline__

/** 16 bytes of weights: read once by one block, never written by the launch, so they bypass L1. Zeros when not wanted. */
DEVICE uint4 load_weight(const void* address, bool wanted = true) {
  uint4 v;
  asm volatile(
      "{\n\t.reg .pred p;\n\tsetp.ne.u32 p, %5, 0;\n\t"
      "mov.u32 %0, 0;\n\tmov.u32 %1, 0;\n\tmov.u32 %2, 0;\n\tmov.u32 %3, 0;\n\t"
      "@p ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];\n\t}"
      : "=&r"(v.x), "=&r"(v.y), "=&r"(v.z), "=&r"(v.w)
      : "l"(__cvta_generic_to_global(address)), "r"(unsigned(wanted)));
  return v;
}

/** A word that other blocks write, past L1. */
DEVICE unsigned load_relaxed(const unsigned* word) {
  unsigned v;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(__cvta_generic_to_global(word)) : "memory");
  return v;
}

/** 16 bytes of the KV cache, which the launch itself appends to: a coherent load. */
DEVICE uint4 load_cache(const void* address) {
  uint4 v;
  asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(__cvta_generic_to_global(address))
               : "memory");
  return v;
}

/** W floats of an activation in global memory, from L2. W: 1, 2 or 4, and the address is a multiple of W * 4 bytes. */
template <int W>
DEVICE void load_activation(float (&v)[W], const float* address) {
  if constexpr (W == 4) {
    const float4 x = __ldcg(reinterpret_cast<const float4*>(address));
    v[0] = x.x, v[1] = x.y, v[2] = x.z, v[3] = x.w;
  } else if constexpr (W == 2) {
    const float2 x = __ldcg(reinterpret_cast<const float2*>(address));
    v[0] = x.x, v[1] = x.y;
  } else {
    v[0] = __ldcg(address);
  }
}

/** The widest load_activation that fits vectors of K floats laid end to end. */
BOTH constexpr int activation_width(int k) { return k % 4 == 0 ? 4 : k % 2 == 0 ? 2 : 1; }

/** Elements of a type in 16 bytes. */
template <class Element>
constexpr int kVector = 16 / int(sizeof(Element));

/** The elements of some words. */
template <class Element, int Words>
DEVICE void unpack_words(float (&v)[Words * 4 / int(sizeof(Element))], const uint32_t (&words)[Words]) {
#pragma unroll
  for (int i = 0; i < Words; ++i) {
    if constexpr (sizeof(Element) == 4) {
      v[i] = __uint_as_float(words[i]);
    } else if constexpr (std::is_same_v<Element, bf16>) {
      v[2 * i] = __uint_as_float(words[i] << 16);
      v[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    } else {
      __half2_raw pair;
      pair.x = uint16_t(words[i]);
      pair.y = uint16_t(words[i] >> 16);
      const float2 both = __half22float2(pair);
      v[2 * i] = both.x, v[2 * i + 1] = both.y;
    }
  }
}

/** The elements of one load of 128 or 64 bits. */
template <class Element>
DEVICE void unpack(float (&v)[kVector<Element>], const uint4& raw) {
  unpack_words<Element>(v, {raw.x, raw.y, raw.z, raw.w});
}
template <class Element>
DEVICE void unpack(float (&v)[kVector<Element> / 2], const uint2& raw) {
  unpack_words<Element>(v, {raw.x, raw.y});
}

DEVICE float to_float(float x) { return x; }
DEVICE float to_float(bf16 x) { return __bfloat162float(x); }
DEVICE float to_float(fp16 x) { return __half2float(x); }

template <class Element>
DEVICE Element to_element(float x) {
  if constexpr (sizeof(Element) == 4) {
    return x;
  } else if constexpr (std::is_same_v<Element, bf16>) {
    return __float2bfloat16_rn(x);
  } else {
    return __float2half_rn(x);
  }
}
