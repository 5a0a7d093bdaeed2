// How blocks hand activations to each other: words of two Weights, or of one float, that announce themselves.
//
// A word is "empty" until somebody publishes it; data never has that bit pattern. There are four copies of every exchange, used in turn.
// Whoever publishes a word of one turn empties the same word two turns ahead. What lay there is two turns old, and read by all: to come
// here a block needed what all others made one turn ago, and they made that behind their reading. (codegen/uncovered-stream.ts checks it.)
#pragma once
#include <type_traits>

#include "watch.cuh"

/** As two Weights and as a float this is a NaN that no arithmetic makes. */
constexpr unsigned kEmptyWord = 0xffffffffu;
constexpr int kCopies = 4;

/** Where word `word` of a token lies among those of T tokens: four words of every token, then the next four. */
template <int T>
DEVICE int word_at(int word, int token) {
  return T == 1 ? word : (word / 4 * T + token) * 4 + word % 4;
}

template <int N>
struct Words {
  unsigned v[N];
};

/** N words, all loaded at once: 1, 2 or 4. */
template <int N>
DEVICE Words<N> load_words(const unsigned* from) {
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

template <int N>
DEVICE bool arrived(const Words<N>& w) {
  bool all = true;
#pragma unroll
  for (int i = 0; i < N; ++i) all &= w.v[i] != kEmptyWord;
  return all;
}

DEVICE void store_word(unsigned* to, unsigned word) {
  asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(to)), "r"(word) : "memory");
}

DEVICE void store_words(unsigned* to, unsigned a, unsigned b) {
  asm volatile("st.relaxed.gpu.global.v2.u32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(to)), "r"(a), "r"(b) : "memory");
}

/** One exchange: [kCopies][kWords] words, each copy at a multiple of 16 bytes. */
template <int Size>
struct Exchange {
  static constexpr int kWords = divide_up(Size, 4) * 4;
  unsigned* words;

  DEVICE unsigned* copy(int turn) const { return words + (turn & (kCopies - 1)) * kWords; }

  DEVICE void publish(int turn, int at, unsigned word) const {
    store_word(copy(turn) + at, word);
    store_word(copy(turn + 2) + at, kEmptyWord);
  }

  /** Two neighbours, at an even place. */
  DEVICE void publish(int turn, int at, unsigned a, unsigned b) const {
    store_words(copy(turn) + at, a, b);
    store_words(copy(turn + 2) + at, kEmptyWord, kEmptyWord);
  }
};

/** Two values, rounded to Weight, as one word. */
DEVICE unsigned pair_word(float low, float high) {
  if constexpr (std::is_same_v<Weight, bf16>) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return reinterpret_cast<const unsigned&>(pair);
  } else {
    constexpr float kMost = 65504;  // what does not fit becomes the largest
    const __half2 pair = __floats2half2_rn(fminf(fmaxf(low, -kMost), kMost), fminf(fmaxf(high, -kMost), kMost));
    return reinterpret_cast<const unsigned&>(pair);
  }
}

DEVICE float2 pair_of(unsigned word) {
  if constexpr (std::is_same_v<Weight, bf16>) {
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
