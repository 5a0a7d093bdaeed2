// How blocks hand activations to each other: words of two activations, or of one float, that announce themselves.
//
// Sentinel: a word is "empty" until somebody publishes it; data never has that bit pattern. Every exchange has four buffers, used in epoch.
// Whoever publishes a word of one epoch empties the same word two epochs ahead. What lay there is two epochs old, and read by all: to come
// here a block needed what all others made one epoch ago, and they made that after reading it. (codegen/schemes/stream/uncovered.ts checks it.)
// Epoch: a flagged word is 64 bits, data and epoch, stored at once. Two buffers do, since an older epoch is not taken for a newer one.
#pragma once
#include <type_traits>

#include "watch.cuh"

/** As two activations and as a float this is a NaN that no arithmetic makes. */
constexpr unsigned kSentinel = 0xffffffffu;
constexpr int kBuffers = kFlaggedWords ? 2 : 4;
constexpr int kWordSize = kFlaggedWords ? 2 : 1;  // in memory [4 bytes]

/** Where word `word` of a token lies among those of T tokens: four words of every token, then the next four. */
template <int T>
BOTH constexpr int word_at(int word, int token) {
  return T == 1 ? word : (word / 4 * T + token) * 4 + word % 4;
}

constexpr int kLine = 32;  // words of 128 bytes, which lie together in one slice of the L2

/**
 * Where it lies in words that every block reads. Those of one token fill half of each line: looks at a line are answered one after the other, and
 * so twice as many slices answer. More tokens have lines enough.
 */
template <int T>
BOTH constexpr int spread_at(int word, int token) {
  return T == 1 ? word / (kLine / 2) * kLine + word % (kLine / 2) : word_at<T>(word, token);
}

template <int N>
struct Words {
  unsigned v[N];
};

/** One epoch of an exchange, for its readers. */
struct Published {
  const unsigned* words = nullptr;  // null: there is none
  unsigned epoch = 0;

  DEVICE Published from(int word) const { return {words + word * kWordSize, epoch}; }
};

/** Units of 32 bits, all loaded at once: 1, 2 or 4. */
template <int N>
DEVICE Words<N> load_units(const unsigned* from) {
  Words<N> w;
  const size_t address = __cvta_generic_to_global(from);
  if constexpr (N == 4)
    asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(w.v[0]), "=r"(w.v[1]), "=r"(w.v[2]), "=r"(w.v[3])
                 : "l"(address)
                 : "memory");
  else if constexpr (N == 2)
    asm volatile("ld.relaxed.gpu.global.v2.u32 {%0, %1}, [%2];" : "=r"(w.v[0]), "=r"(w.v[1]) : "l"(address) : "memory");
  else
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(w.v[0]) : "l"(address) : "memory");
  return w;
}

/** The data of a word with its epoch, or "empty" where that is another. Data and epoch are one access. */
DEVICE unsigned load_flagged_word(const unsigned* from, unsigned epoch) {
  uint64_t word;
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(word) : "l"(__cvta_generic_to_global(from)) : "memory");
  return unsigned(word >> 32) == epoch ? unsigned(word) : kSentinel;
}

/** The same of two neighbours. */
DEVICE void load_flagged_words(const unsigned* from, unsigned epoch, unsigned& a, unsigned& b) {
  uint64_t first, second;
  asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];"
               : "=l"(first), "=l"(second)
               : "l"(__cvta_generic_to_global(from))
               : "memory");
  a = unsigned(first >> 32) == epoch ? unsigned(first) : kSentinel;
  b = unsigned(second >> 32) == epoch ? unsigned(second) : kSentinel;
}

/** Words [at, at + N) of an exchange; N: 1, 2 or 4, `at` a multiple of it. What has not arrived is "empty". */
template <int N>
DEVICE Words<N> load_words(const Published& from, int at) {
  const unsigned* const words = from.words + at * kWordSize;
  if constexpr (!kFlaggedWords) {
    return load_units<N>(words);
  } else {
    Words<N> w;
    if constexpr (N == 1) w.v[0] = load_flagged_word(words, from.epoch);
#pragma unroll
    for (int i = 0; i + 1 < N; i += 2) load_flagged_words(words + i * kWordSize, from.epoch, w.v[i], w.v[i + 1]);
    return w;
  }
}

template <int N>
DEVICE bool arrived(const Words<N>& w) {
  bool all = true;
#pragma unroll
  for (int i = 0; i < N; ++i) all &= w.v[i] != kSentinel;
  return all;
}

DEVICE void store_word(unsigned* to, unsigned word) {
  asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(to)), "r"(word) : "memory");
}

DEVICE void store_words(unsigned* to, unsigned a, unsigned b) {
  asm volatile("st.relaxed.gpu.global.v2.u32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(to)), "r"(a), "r"(b) : "memory");
}

DEVICE void store_flagged_word(unsigned* to, unsigned word, unsigned epoch) {
  const uint64_t both = uint64_t(epoch) << 32 | word;
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(__cvta_generic_to_global(to)), "l"(both) : "memory");
}

/** In the place of an exchange that a plan does not have. */
struct NoExchange {
  static constexpr bool kExists = false;
  DEVICE Published of(int) const { return {}; }
  DEVICE void publish(int, int, unsigned) const {}
  DEVICE void publish(int, int, unsigned, unsigned) const {}
};

/** One exchange: [kBuffers][kUnits], each buffer in lines of its own. */
template <int Size>
struct Exchange {
  static constexpr bool kExists = true;
  static constexpr int kUnits = divide_up(Size, kLine) * kLine * kWordSize;
  unsigned* words;

  template <int T>
  DEVICE static int at(int word, int token) {
    return word_at<T>(word, token);
  }

  DEVICE unsigned* buffer(int epoch) const { return words + (epoch & (kBuffers - 1)) * kUnits; }

  DEVICE Published of(int epoch) const { return {buffer(epoch), unsigned(epoch)}; }

  DEVICE void publish(int epoch, int at, unsigned word) const {
    if constexpr (kFlaggedWords) {
      store_flagged_word(buffer(epoch) + at * kWordSize, word, epoch);
    } else {
      store_word(buffer(epoch) + at, word);
      store_word(buffer(epoch + 2) + at, kSentinel);
    }
  }

  /** Two neighbours, at an even place. */
  DEVICE void publish(int epoch, int at, unsigned a, unsigned b) const {
    if constexpr (kFlaggedWords) {
      publish(epoch, at, a);
      publish(epoch, at + 1, b);
    } else {
      store_words(buffer(epoch) + at, a, b);
      store_words(buffer(epoch + 2) + at, kSentinel, kSentinel);
    }
  }
};

/** Vectors of T tokens that every block reads, of so many words each. */
template <int T, int Size>
struct VectorExchange : Exchange<T == 1 ? spread_at<1>(Size - 1, 0) + 1 : T * Size> {
  template <int Tokens>
  DEVICE static int at(int word, int token) {
    return spread_at<Tokens>(word, token);
  }
};

/** Two values, rounded to Wire, as one word. */
DEVICE unsigned pair_word(float low, float high) {
  if constexpr (std::is_same_v<Wire, bf16>) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return reinterpret_cast<const unsigned&>(pair);
  } else {
    constexpr float kMost = 65504;  // what does not fit becomes the largest
    const __half2 pair = __floats2half2_rn(fminf(fmaxf(low, -kMost), kMost), fminf(fmaxf(high, -kMost), kMost));
    return reinterpret_cast<const unsigned&>(pair);
  }
}

DEVICE float2 pair_of(unsigned word) {
  if constexpr (std::is_same_v<Wire, bf16>) {
    return make_float2(__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u));
  } else {
    return __half22float2(reinterpret_cast<const __half2&>(word));
  }
}

/** Both values of a word times those of another, each rounded once. */
DEVICE unsigned times(unsigned a, unsigned b) {
  const float2 x = pair_of(a), y = pair_of(b);
  return pair_word(x.x * y.x, x.y * y.y);
}
