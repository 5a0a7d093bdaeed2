// Logits as they compete for a token: as keys, with biases and penalties; and what a block finds among its threads'.
#pragma once
#include "host/choice.h"
#include "host/finite.h"
#include "host/noise.h"
#include "block.cuh"

/** Larger z, larger key; NaN is smallest, below -inf. */
DEVICE uint32_t ordered_key(float z) {
  const uint32_t bits = bits_of(z);
  if (z != z) return 0;
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/** A key above all others that no float has, and no exchange takes for a word that has not come: a logit is NaN or infinite. */
constexpr uint32_t kStrangeKey = 0xfffffffeu;

DEVICE float value_of(uint32_t key) { return float_of(key & 0x80000000u ? key & 0x7fffffffu : ~key); }

DEVICE uint64_t* shared_parts() {
  __shared__ uint64_t parts[kWarps];
  return parts;
}

DEVICE uint32_t warp_largest_key(uint32_t key) {
  asm volatile("redux.sync.max.u32 %0, %0, 0xffffffff;" : "+r"(key));
  return key;
}

struct Larger {
  DEVICE uint64_t operator()(uint64_t a, uint64_t b) const { return a > b ? a : b; }
};

/** Combines x over the warp; every lane gets the result. combine must not care about order. */
template <class Combine>
DEVICE uint64_t warp_combine(uint64_t x, Combine&& combine) {
#pragma unroll
  for (int other = 16; other > 0; other /= 2) x = combine(x, (uint64_t)__shfl_xor_sync(~0u, (unsigned long long)x, other));
  return x;
}

DEVICE uint64_t warp_largest(uint64_t x) { return warp_combine(x, Larger{}); }

/** The same over the block; every thread gets the result. */
template <class Combine>
DEVICE uint64_t block_combine(uint64_t x, Combine&& combine) {
  uint64_t* const parts = shared_parts();
  x = warp_combine(x, combine);
  if (lane() == 0) parts[warp()] = x;
  block_sync();
  x = parts[0];
#pragma unroll
  for (int i = 1; i < kWarps; ++i) x = combine(x, parts[i]);
  block_sync();
  return x;
}

DEVICE uint64_t block_total(uint64_t x) {
  return block_combine(x, [](uint64_t a, uint64_t b) { return a + b; });
}

DEVICE uint64_t block_largest(uint64_t x) { return block_combine(x, Larger{}); }

/** gumbel(bits), of which few threads need one. */
static ONCE float gumbel_noise(uint32_t bits) { return gumbel(bits); }

/** Division by a number that stays: rounded as IEEE division is, for quotients that are normal numbers, without its slow path. */
struct Divisor {
  float by, inverse;

  DEVICE explicit Divisor(float x) : by(x) { inverse = __frcp_rn(x); }

  DEVICE float operator()(float x) const {
    const float first = __fmul_rn(x, inverse);
    const float better = fmaf(fmaf(-first, by, x), inverse, first);
    const float last = fmaf(fmaf(-better, by, x), inverse, better);
    return __fsub_rn(first, first) == 0 ? last : first;  // infinities and NaN stay
  }
};

/** body(i, x[i]) for all that was loaded at once, in a loop: what is long is not written N times. Destroys x. */
template <int N, class T, class Body>
DEVICE void one_by_one(T (&x)[N], Body&& body) {
#pragma unroll 1
  for (int i = 0; i < N; ++i) {
    body(i, x[0]);
#pragma unroll
    for (int next = 1; next < N; ++next) x[next - 1] = x[next];
  }
}

/** Logits [vocab] with their biases, and the penalties of tokens that occurred. */
struct Logits {
  const float* values;
  const int* counts;  // null: no penalties
  const float* bias;  // null: none
  float repetition, presence, frequency;
  Divisor by_repetition;
  int vocab;

  DEVICE Logits(const float* of, const Sampling& s, const int* all_counts, const float* biases)
      : values(of),
        counts(has_penalties(s) ? all_counts : nullptr),
        bias(biases),
        repetition(s.repetition_penalty),
        presence(s.presence_penalty),
        frequency(s.frequency_penalty),
        by_repetition(s.repetition_penalty),
        vocab(s.vocab > 0 ? min(s.vocab, kVocab) : kVocab) {}

  /** As in host/noise.h, to the bit. */
  DEVICE float penalised(float x, int count) const {
    const float less = penalty_of(count, presence, frequency);
    return x < 0 ? fmaf(x, repetition, -less) : __fsub_rn(by_repetition(x), less);
  }

  /** A logit with its bias and penalties. */
  DEVICE float changed(int id, float x) const {
    const int count = counts ? __ldcg(counts + id) : 0;
    const float biased = bias ? __fadd_rn(x, __ldcg(bias + id)) : x;
    return count > 0 ? penalised(biased, count) : biased;
  }

  /** body(id, logit, logit before bias and penalties) for all ids, dealt to the threads, ascending within a thread. */
  template <class Body>
  DEVICE void each(Body&& body) const {
    walk<true>(body);
  }

  /** The same where time counts: with a loop of its own for logits that nothing changes. */
  template <class Body>
  DEVICE void each_fast(Body&& body) const {
    if (counts || bias)
      walk<true>(body);
    else
      walk<false>(body);
  }

 private:
  template <bool Changed, class Body>
  DEVICE void walk(Body&& body) const {
    constexpr int kTogether = 4;
    const auto one = [&](int id, float x) {
      body(id, Changed ? changed(id, x) : x, x);
    };
    const int head = min(vocab, int(-(reinterpret_cast<size_t>(values) / sizeof(float)) & 3));  // up to a multiple of 16 bytes
    const int fours = (vocab - head) / 4;
    if (int(threadIdx.x) < head) one(int(threadIdx.x), __ldcg(values + threadIdx.x));
    for (int first = int(threadIdx.x); first < fours; first += kTogether * kThreads) {
      float4 x[kTogether];
#pragma unroll
      for (int u = 0; u < kTogether; ++u) {
        const int i = first + u * kThreads;
        if (i < fours) x[u] = __ldcg(reinterpret_cast<const float4*>(values + head) + i);
      }
      one_by_one(x, [&](int u, const float4& of_four) {
        const int i = first + u * kThreads, id = head + 4 * i;
        if (i >= fours) return;
        one(id, of_four.x), one(id + 1, of_four.y), one(id + 2, of_four.z), one(id + 3, of_four.w);
      });
    }
    const int tail = head + 4 * fours + int(threadIdx.x);
    if (tail < vocab) one(tail, __ldcg(values + tail));
  }
};
