// The next token, by one block. Nothing here depends on the order of a sum: masses are integers, noise belongs to the token.
#pragma once
#include "host/choice.h"
#include "host/finite.h"
#include "host/noise.h"
#include "block.cuh"

/** Candidates that are kept in b.scratch; more are read from the logits again, which is slower and gives the same token. */
constexpr int kCandidates = 1024;
/** How far below the top the candidates are looked for first, where their number is not known [nats]; half of it while they are too many. */
constexpr float kNear = 8;
constexpr int kAttempts = 6;

/** Floats of b.scratch that sample uses: a key and an id for each candidate. */
BOTH constexpr int sample_scratch() { return 2 * kCandidates; }

static_assert(kCandidates % kThreads == 0);

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

/** Combines x over the block; every thread gets the result. combine must not care about order. */
template <class Combine>
DEVICE uint64_t block_combine(uint64_t x, Combine&& combine) {
  uint64_t* const parts = shared_parts();
#pragma unroll
  for (int other = 16; other > 0; other /= 2) x = combine(x, (uint64_t)__shfl_xor_sync(~0u, (unsigned long long)x, other));
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

DEVICE uint64_t block_largest(uint64_t x) {
  return block_combine(x, [](uint64_t a, uint64_t b) { return a > b ? a : b; });
}

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

/** Logits [vocab] with their biases, and the penalties of tokens that occurred. */
struct Logits {
  const float* values;
  const int* counts;  // null: no penalties
  const float* bias;  // null: none
  float repetition, presence, frequency;
  Divisor by_repetition;
  int vocab;

  /** As in host/noise.h, to the bit. */
  DEVICE float penalised(float x, int count) const {
    const float less = penalty_of(count, presence, frequency);
    return x < 0 ? fmaf(x, repetition, -less) : __fsub_rn(by_repetition(x), less);
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
      if constexpr (!Changed) return body(id, x, x);
      const int count = counts ? __ldcg(counts + id) : 0;
      const float biased = bias ? __fadd_rn(x, __ldcg(bias + id)) : x;
      body(id, count > 0 ? penalised(biased, count) : biased, x);
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
#pragma unroll
      for (int u = 0; u < kTogether; ++u) {
        const int i = first + u * kThreads, id = head + 4 * i;
        if (i >= fours) break;
        one(id, x[u].x), one(id + 1, x[u].y), one(id + 2, x[u].z), one(id + 3, x[u].w);
      }
    }
    const int tail = head + 4 * fours + int(threadIdx.x);
    if (tail < vocab) one(tail, __ldcg(values + tail));
  }
};

/** The largest key such that the keys from it up weigh at least `need`; sum_from(key) is this thread's share of that weight. */
template <class SumFrom>
DEVICE uint32_t key_weighing(uint64_t need, SumFrom&& sum_from) {
  uint32_t key = 0;
#pragma unroll 1
  for (uint32_t bit = 0x80000000u; bit != 0; bit >>= 1)
    if (block_total(sum_from(key | bit)) >= need) key |= bit;
  return key;
}

/** top_p of the total, rounded up; at least something. */
DEVICE uint64_t share_of(float top_p, uint64_t total) {
  const uint64_t share = (uint64_t)ceil((double)top_p * (double)total);
  return share > 0 ? share : 1;
}

/** What is left of the vocabulary: keys from `low` up, of mass at least `least` unless the key is `top`. */
struct Kept {
  uint32_t top, low;
  uint64_t least;

  /** exp(z - largest z) in 2^-40. */
  DEVICE uint64_t mass(uint32_t key) const { return exp_fixed(key == top ? 0.0f : value_of(key) - value_of(top)); }
};

/** The best of a thread's candidates, z + noise. */
struct Choice {
  float most = -float_of(0x7f800000u);
  int best = 0x7fffffff;
  bool strange = false;  // a logit was NaN or infinite

  DEVICE void consider(uint32_t key, int id, const Kept& kept, uint64_t noise) {
    if (key < kept.low || (key != kept.top && kept.least > 0 && kept.mass(key) < kept.least)) return;
    const float z = value_of(key);
    if (z + gumbel_bound(0) < most) return;
    const uint32_t bits = noise_bits(noise, id);
    if (z + gumbel_bound(bits) < most) return;  // most candidates cannot win: no logarithms for them
    const float noisy = z + gumbel(bits);
    if (noisy > most || (noisy == most && id < best)) most = noisy, best = id;
  }

  /** The block's choice: the largest, the lowest id of equals; 0 if there is none, kNotFinite if any thread's was strange. */
  DEVICE int of_block() const {
    const uint32_t key = strange ? kStrangeKey : ordered_key(most + 0.0f);
    const uint64_t all = block_largest((uint64_t)key << 32 | (uint32_t)~best);
    if (all >> 32 == kStrangeKey) return kNotFinite;
    const int id = int(~(uint32_t)all);
    return id == 0x7fffffff ? 0 : id;
  }
};

/** A thread's largest logit. */
struct Largest {
  float most = -float_of(0x7f800000u);
  bool strange = false;  // a logit was NaN or infinite

  DEVICE void consider(float x, float computed) {
    strange |= not_finite(bits_of(computed));
    most = fmaxf(most, x);
  }
};

/** Lists the keys from `least` up and their ids, in no particular order; returns how many there are: beyond kCandidates they are not listed. */
DEVICE int list_from(uint32_t least, const Logits& logits, float temperature, const Divisor& by_temperature, uint32_t* keys, int* ids) {
  __shared__ int found;
  if (threadIdx.x == 0) found = 0;
  block_sync();
  // Below it no quotient is rounded up to the least: most logits cost no division.
  const float near = value_of(least) * temperature;
  const float low = fmaf(-1e-6f, fabsf(near), near) - 1e-30f;
  logits.each_fast([&](int id, float x, float) {
    if (x < low) return;
    const uint32_t key = ordered_key(by_temperature(x));
    if (key < least) return;
    const int at = atomicAdd(&found, 1);
    if (at < kCandidates) keys[at] = key, ids[at] = id;
  });
  block_sync();
  return found;
}

/** A thread's part of the candidates in scratch. */
struct Listed {
  static constexpr int kEach = kCandidates / kThreads;
  uint32_t key[kEach];
  uint64_t mass[kEach];

  DEVICE void read(const uint32_t* keys, int n, const Kept& kept) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int at = int(threadIdx.x) + i * kThreads;
      key[i] = at < n ? keys[at] : 0;
      mass[i] = at < n ? kept.mass(key[i]) : 0;
    }
  }

  /** Weight of the keys from `low` up; 1 each where `counting`. */
  DEVICE uint64_t from(uint32_t low, int n, bool counting) const {
    uint64_t sum = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      if (int(threadIdx.x) + i * kThreads < n && key[i] >= low) sum += counting ? 1 : mass[i];
    return sum;
  }
};

/** The body of sample. */
DEVICE void choose_token(float* scratch, const float* values, const Sampling& s, int* counts, const float* bias, int position, int* next) {
  const int vocab = s.vocab > 0 ? min(s.vocab, kVocab) : kVocab;
  const Logits logits{values, has_penalties(s) ? counts : nullptr, bias, s.repetition_penalty, s.presence_penalty, s.frequency_penalty,
                      Divisor(s.repetition_penalty), vocab};
  Choice choice;
  block_sync();
  if (!(s.temperature > 0)) {
    logits.each([&](int id, float x, float computed) {
      choice.strange |= not_finite(bits_of(computed));
      if (x > choice.most || (x == choice.most && id < choice.best)) choice.most = x, choice.best = id;
    });
  } else {
    const Divisor by_temperature(s.temperature);
    const auto each_key = [&](auto&& body) {
      logits.each([&](int id, float x, float) { body(id, ordered_key(by_temperature(x))); });
    };
    Kept kept{0, 0, s.min_p > 0 ? (uint64_t)((double)s.min_p * (double)exp_fixed(0)) : 0};
    Largest mine;
    logits.each_fast([&](int, float x, float computed) { mine.consider(x, computed); });
    const uint32_t my_top = mine.strange ? kStrangeKey : ordered_key(by_temperature(mine.most));
    kept.top = uint32_t(block_largest(my_top));
    if (kept.top == kStrangeKey) {
      if (threadIdx.x == 0) *next = kNotFinite;
      return;
    }
    const uint64_t noise = noise_key(s.seed, position);
    const bool few = s.top_k > 0 && s.top_k < vocab, nucleus = s.top_p < 1;
    uint32_t* const keys = reinterpret_cast<uint32_t*>(scratch);
    int* const ids = reinterpret_cast<int*>(keys + kCandidates);
    bool complete = false;  // the list holds all that is left
    if (few || nucleus) {
      uint64_t share = 0;
      if (!few) {
        uint64_t total = 0;
        each_key([&](int, uint32_t key) { total += kept.mass(key); });
        share = share_of(s.top_p, block_total(total));
      }
      // As many logits as threads' largest reach one of these; elsewhere what is near the top, and nearer while that is too many.
      uint32_t least = few && s.top_k <= kThreads ? key_weighing(s.top_k, [&](uint32_t low) { return uint64_t(my_top >= low); }) : 0;
      float near = kNear;
      Listed list;
      int n = 0;
#pragma unroll 1
      for (int attempt = 0; attempt < kAttempts; ++attempt) {
        if (!few || s.top_k > kThreads) least = ordered_key(value_of(kept.top) - near);
        n = list_from(least, logits, s.temperature, by_temperature, keys, ids);
        if (n <= kCandidates) break;
        near /= 2;
      }
      if (n <= kCandidates) {
        list.read(keys, n, kept);
        complete = few ? n >= s.top_k : block_total(list.from(0, n, false)) >= share;
      }
      if (complete) {
        if (few) kept.low = key_weighing(s.top_k, [&](uint32_t low) { return list.from(low, n, true); });
        if (few && nucleus) share = share_of(s.top_p, block_total(list.from(kept.low, n, false)));
        if (nucleus)
          kept.low = max(kept.low, key_weighing(share, [&](uint32_t low) { return list.from(low, n, false); }));
        for (int i = int(threadIdx.x); i < n; i += kThreads) choice.consider(keys[i], ids[i], kept, noise);
      } else {
        const auto sum_from = [&](uint32_t low, bool counting) {
          uint64_t sum = 0;
          each_key([&](int, uint32_t key) {
            if (key >= low) sum += counting ? 1 : kept.mass(key);
          });
          return sum;
        };
        if (few) kept.low = key_weighing(s.top_k, [&](uint32_t low) { return sum_from(low, true); });
        if (few && nucleus) share = share_of(s.top_p, block_total(sum_from(kept.low, false)));
        if (nucleus) kept.low = max(kept.low, key_weighing(share, [&](uint32_t low) { return sum_from(low, false); }));
      }
    }
    if (!complete) logits.each_fast([&](int id, float x, float) { choice.consider(ordered_key(by_temperature(x)), id, kept, noise); });
  }
  const int token = choice.of_block();
  if (threadIdx.x == 0) {
    *next = token;
    if (token >= 0) counts[token] += kChosenOnce;
  }
}

/**
 * *next := the token chosen from logits [kVocab], counted in counts [kVocab]; kNotFinite if a logit is NaN or
 * infinite. By all threads of block 0.
 * Bias, unless it is null, penalties, temperature (0: the largest logit, the lowest id of equals), top_k, top_p, min_p; then the largest
 * logit / temperature + Gumbel noise.
 */
DEVICE void sample(Block& b, const float* logits, const Sampling& s, int* counts, const float* bias, int position, int scratch, int* next) {
  choose_token(b.scratch + scratch, logits, s, counts, bias, position, next);
}
