// How blocks hand activations to each other: words of two Weights, or of one float, that announce themselves.
//
// Sentinel: a word is "empty" until somebody publishes it; data never has that bit pattern. There are four copies of every exchange, used in
// turn. Whoever publishes a word of one turn empties the same word two turns ahead. What lay there is two turns old, and read by all: to come
// here a block needed what all others made one turn ago, and they made that behind their reading. (codegen/schemes/stream/uncovered.ts checks it.)
// Epoch: a word is 64 bits, data and turn, stored at once. Two copies do, since an older turn is not taken for a newer one.
#pragma once
#include <type_traits>

#include "watch.cuh"

/** As two Weights and as a float this is a NaN that no arithmetic makes. */
constexpr unsigned kEmptyWord = 0xffffffffu;
constexpr int kCopies = kEpochWords ? 2 : 4;
constexpr int kWordSize = kEpochWords ? 2 : 1;  // in memory [4 bytes]

/** Where word `word` of a token lies among those of T tokens: four words of every token, then the next four. */
template <int T>
DEVICE int word_at(int word, int token) {
  return T == 1 ? word : (word / 4 * T + token) * 4 + word % 4;
}

template <int N>
struct Words {
  unsigned v[N];
};

/** One turn of an exchange, for its readers. */
struct Published {
  const unsigned* words = nullptr;  // null: there is none
  unsigned turn = 0;

  DEVICE Published from(int word) const { return {words + word * kWordSize, turn}; }
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

/** The data of a word with its turn, or "empty" where that is another. Data and turn are one access. */
DEVICE unsigned load_epoch_word(const unsigned* from, unsigned turn) {
  uint64_t word;
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(word) : "l"(__cvta_generic_to_global(from)) : "memory");
  return unsigned(word >> 32) == turn ? unsigned(word) : kEmptyWord;
}

/** The same of two neighbours. */
DEVICE void load_epoch_words(const unsigned* from, unsigned turn, unsigned& a, unsigned& b) {
  uint64_t first, second;
  asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];"
               : "=l"(first), "=l"(second)
               : "l"(__cvta_generic_to_global(from))
               : "memory");
  a = unsigned(first >> 32) == turn ? unsigned(first) : kEmptyWord;
  b = unsigned(second >> 32) == turn ? unsigned(second) : kEmptyWord;
}

/** Words [at, at + N) of an exchange; N: 1, 2 or 4, `at` a multiple of it. What has not arrived is "empty". */
template <int N>
DEVICE Words<N> load_words(const Published& from, int at) {
  const unsigned* const words = from.words + at * kWordSize;
  if constexpr (!kEpochWords) {
    return load_units<N>(words);
  } else {
    Words<N> w;
    if constexpr (N == 1) w.v[0] = load_epoch_word(words, from.turn);
#pragma unroll
    for (int i = 0; i + 1 < N; i += 2) load_epoch_words(words + i * kWordSize, from.turn, w.v[i], w.v[i + 1]);
    return w;
  }
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

DEVICE void store_epoch_word(unsigned* to, unsigned word, unsigned turn) {
  const uint64_t both = uint64_t(turn) << 32 | word;
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(__cvta_generic_to_global(to)), "l"(both) : "memory");
}

/** One exchange: [kCopies][kUnits], each copy at a multiple of 16 bytes. */
template <int Size>
struct Exchange {
  static constexpr int kUnits = divide_up(Size, 4) * 4 * kWordSize;
  unsigned* words;

  DEVICE unsigned* copy(int turn) const { return words + (turn & (kCopies - 1)) * kUnits; }

  DEVICE Published of(int turn) const { return {copy(turn), unsigned(turn)}; }

  DEVICE void publish(int turn, int at, unsigned word) const {
    if constexpr (kEpochWords) {
      store_epoch_word(copy(turn) + at * kWordSize, word, turn);
    } else {
      store_word(copy(turn) + at, word);
      store_word(copy(turn + 2) + at, kEmptyWord);
    }
  }

  /** Two neighbours, at an even place. */
  DEVICE void publish(int turn, int at, unsigned a, unsigned b) const {
    if constexpr (kEpochWords) {
      publish(turn, at, a);
      publish(turn, at + 1, b);
    } else {
      store_words(copy(turn) + at, a, b);
      store_words(copy(turn + 2) + at, kEmptyWord, kEmptyWord);
    }
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
