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
/** So many candidates at most are compared each with all, a thread each; more are weighed bit by bit of a key. */
constexpr int kCompared = kThreads < 256 ? kThreads : 256;
/** Logits so far below the least that min_p keeps are below it, however their masses are rounded [nats]. */
constexpr float kSlack = 0.01f;

/** Floats of b.scratch that sample uses: a key and an id for each candidate, and a word for each thread. */
BOTH constexpr int sample_scratch() { return 2 * kCandidates + kThreads; }

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
    consider(value_of(key), id, noise);
  }

  DEVICE void consider(float z, int id, uint64_t noise) {
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

/** A vocabulary of which nothing is known before its logits are read. */
struct WholeVocabulary {
  static constexpr int kParts = 0;
  static constexpr bool known = false;

  DEVICE uint32_t top(const Divisor&) const { return 0; }
  template <class Body>
  DEVICE void each(bool, const Logits& logits, int*, Body&& body) const {
    logits.each_fast(body);
  }
};

/** The largest of all threads' keys that at least `need` of the first `n` reach. @param all a word for each thread */
DEVICE uint32_t reached_by(int need, uint32_t mine, int n, uint32_t* all) {
  all[threadIdx.x] = mine;
  block_sync();
  int reaching = 0;
#pragma unroll 8
  for (int i = 0; i < n; ++i) reaching += all[i] >= mine;
  return uint32_t(block_largest(reaching >= need ? mine : 0));
}

/** Keys from `least` up. */
struct Reaching {
  const uint32_t least;
  const float low;  // below it no quotient is rounded up to the least: most logits cost no division
  const Divisor& by_temperature;

  DEVICE Reaching(uint32_t from, float temperature, const Divisor& by) : least(from), low(below(value_of(from) * temperature)), by_temperature(by) {}

  /** The key of a logit; 0 where it does not reach. */
  DEVICE uint32_t operator()(float x) const {
    if (x < low) return 0;
    const uint32_t key = ordered_key(by_temperature(x));
    return key < least ? 0 : key;
  }

 private:
  DEVICE static float below(float x) { return fmaf(-1e-6f, fabsf(x), x) - 1e-30f; }
};

/** Candidates in scratch, in no particular order. */
struct CandidateList {
  uint32_t* const keys;  // [kCandidates]
  int* const ids;        // [kCandidates]
  int* const threads;    // a word for each
  int n = 0;             // beyond kCandidates they are not there

  DEVICE explicit CandidateList(float* scratch)
      : keys(reinterpret_cast<uint32_t*>(scratch)), ids(reinterpret_cast<int*>(scratch) + kCandidates), threads(ids + kCandidates) {}

  /** Lists the keys from `least` up; my_top is this thread's. */
  template <class Vocabulary>
  DEVICE void list(uint32_t least, uint32_t my_top, const Vocabulary& vocabulary, const Logits& logits, float temperature, const Divisor& by_temperature) {
    __shared__ int found;
    if (threadIdx.x == 0) found = 0;
    block_sync();
    const Reaching reaches(least, temperature, by_temperature);
    vocabulary.each(my_top >= least, logits, threads, [&](int id, float x, float) {
      const uint32_t key = reaches(x);
      if (key == 0) return;
      const int at = atomicAdd(&found, 1);
      if (at < kCandidates) keys[at] = key, ids[at] = id;
    });
    block_sync();
    n = found;
  }
};

/** A thread's part of the candidates. */
struct Listed {
  static constexpr int kEach = kCandidates / kThreads;
  uint32_t key[kEach];
  uint64_t mass[kEach];

  DEVICE void read(const CandidateList& list, const Kept& kept) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int at = int(threadIdx.x) + i * kThreads;
      key[i] = at < list.n ? list.keys[at] : 0;
      mass[i] = at < list.n ? kept.mass(key[i]) : 0;
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

/** What top_k and top_p ask for. */
struct Filter {
  bool few, nucleus;
  int top_k;
  float top_p;

  DEVICE Filter(const Sampling& s, int vocab) : few(s.top_k > 0 && s.top_k < vocab), nucleus(s.top_p < 1), top_k(s.top_k), top_p(s.top_p) {}

  /** The least key that they keep; from(low, counting) is this thread's share of the keys from `low` up. @param share of the mass, where top_k is not asked for */
  template <class From>
  DEVICE uint32_t least_of(uint64_t share, From&& from) const {
    uint32_t low = few ? key_weighing(top_k, [&](uint32_t key) { return from(key, true); }) : 0;
    if (few && nucleus) share = share_of(top_p, block_total(from(low, false)));
    if (nucleus) low = max(low, key_weighing(share, [&](uint32_t key) { return from(key, false); }));
    return low;
  }

  /** The same of at most kCompared candidates. */
  DEVICE uint32_t least_of(uint64_t share, const CandidateList& list, const Kept& kept) const {
    const bool mine = int(threadIdx.x) < list.n;
    const uint32_t key = mine ? list.keys[threadIdx.x] : 0;
    uint64_t* const masses = reinterpret_cast<uint64_t*>(list.keys + kCompared);  // where no candidate is
    if (mine) masses[threadIdx.x] = kept.mass(key);
    block_sync();
    int count = 0;
    uint64_t mass = 0;
#pragma unroll 4
    for (int i = 0; i < list.n; ++i)
      if (list.keys[i] >= key) ++count, mass += masses[i];
    uint32_t low = few ? uint32_t(block_largest(mine && count >= top_k ? key : 0)) : 0;
    if (few && nucleus) share = share_of(top_p, block_largest(mine && key == low ? mass : 0));
    if (nucleus) low = max(low, uint32_t(block_largest(mine && mass >= share ? key : 0)));
    return low;
  }
};
static_assert(kCandidates >= 3 * kCompared, "the masses lie behind as many keys");

/** A draw among those logits that top_k, top_p and min_p leave. */
struct Draw {
  const Sampling& s;
  const Divisor by_temperature;
  const Filter filter;
  const uint64_t noise;
  Kept kept;

  DEVICE Draw(const Sampling& sampling, int vocab, int position)
      : s(sampling),
        by_temperature(sampling.temperature),
        filter(sampling, vocab),
        noise(noise_key(sampling.seed, position)),
        kept{0, 0, sampling.min_p > 0 ? (uint64_t)((double)sampling.min_p * (double)exp_fixed(0)) : 0} {}

  DEVICE uint32_t key(float x) const { return ordered_key(by_temperature(x)); }

  /** Learns the largest key from all threads'; false: a logit is NaN or infinite. */
  DEVICE bool begin(uint32_t my_top) {
    kept.top = uint32_t(block_largest(my_top));
    return kept.top != kStrangeKey;
  }

  /** Whether the share of the mass that is kept is one of all logits. */
  DEVICE bool weighs_all() const { return filter.nucleus && !filter.few; }

  DEVICE uint32_t near_top(float distance) const { return ordered_key(value_of(kept.top) - distance); }

  /** No key below it is left by min_p, nor by what is known of the others. */
  DEVICE uint32_t floor() const { return s.min_p > 0 ? max(kept.low, near_top(kSlack - noise_log(s.min_p))) : kept.low; }

  /** Whether nothing but a guess says where the candidates begin. */
  DEVICE bool guesses(int tops) const { return filter.few ? s.top_k > tops : filter.nucleus; }

  /** Where the candidates begin: as many logits as tops reach one of these; where that is a guess, so near the top. @param words one for each thread */
  DEVICE uint32_t least_listed(uint32_t my_top, int tops, float distance, int* words) const {
    if (guesses(tops)) return near_top(distance);
    return filter.few ? reached_by(s.top_k, my_top, tops, reinterpret_cast<uint32_t*>(words)) : floor();
  }

  /** Finds the least key that is kept; false: candidates are missing. @param share of the mass, where it is one of all logits */
  DEVICE bool settle(const CandidateList& list, uint64_t share) {
    if (list.n > kCandidates) return false;
    if (!filter.few && !filter.nucleus) return true;
    Listed mine;
    mine.read(list, kept);
    if (filter.few ? list.n < s.top_k : block_total(mine.from(0, list.n, false)) < share) return false;
    kept.low = list.n <= kCompared ? filter.least_of(share, list, kept)
                                   : filter.least_of(share, [&](uint32_t low, bool counting) { return mine.from(low, list.n, counting); });
    return true;
  }

  DEVICE void among(const CandidateList& list, Choice& choice) const {
    for (int i = int(threadIdx.x); i < list.n; i += kThreads) choice.consider(list.keys[i], list.ids[i], kept, noise);
  }
};

/** The choice of a draw by one block. Vocabulary: what is known of it beforehand, and how it is read. */
template <class Vocabulary>
DEVICE Choice draw_filtered(float* scratch, const Logits& logits, const Sampling& s, int position, const Vocabulary& vocabulary) {
  Draw draw(s, logits.vocab, position);
  const auto each_key = [&](auto&& body) {
    logits.each([&](int id, float x, float) { body(id, draw.key(x)); });
  };
  Choice choice;
  uint32_t my_top = vocabulary.top(draw.by_temperature);
  if (!vocabulary.known) {
    Largest mine;
    logits.each_fast([&](int, float x, float computed) { mine.consider(x, computed); });
    my_top = mine.strange ? kStrangeKey : draw.key(mine.most);
  }
  choice.strange = !draw.begin(my_top);
  if (choice.strange) return choice;
  uint64_t share = 0;
  if (draw.weighs_all()) {
    uint64_t total = 0;
    each_key([&](int, uint32_t key) { total += draw.kept.mass(key); });
    share = share_of(s.top_p, block_total(total));
  }
  CandidateList list(scratch);
  const int tops = vocabulary.known ? Vocabulary::kParts : kThreads;
  float distance = kNear;
#pragma unroll 1
  for (int attempt = 0; attempt < kAttempts; ++attempt, distance /= 2) {
    list.list(draw.least_listed(my_top, tops, distance, list.threads), my_top, vocabulary, logits, s.temperature, draw.by_temperature);
    if (list.n <= kCandidates || !draw.guesses(tops)) break;
  }
  if (draw.settle(list, share)) {
    draw.among(list, choice);
    return choice;
  }
  draw.kept.low = draw.filter.least_of(share, [&](uint32_t low, bool counting) {
    uint64_t sum = 0;
    each_key([&](int, uint32_t key) {
      if (key >= low) sum += counting ? 1 : draw.kept.mass(key);
    });
    return sum;
  });
  vocabulary.each(my_top >= draw.floor(), logits, list.threads, [&](int id, float x, float) { choice.consider(draw.key(x), id, draw.kept, draw.noise); });
  return choice;
}

/** *next := what was chosen, which is counted in counts [kVocab]. By all threads. */
DEVICE void keep_choice(int token, int* counts, int* next) {
  if (threadIdx.x != 0) return;
  *next = token;
  if (token >= 0) counts[token] += kChosenOnce;
}

/** The body of sample. Vocabulary: of logits that neither bias nor penalties change. */
template <class Vocabulary>
DEVICE void choose_token(float* scratch, const float* values, const Sampling& s, int* counts, const float* bias, int position, int* next,
                         const Vocabulary& vocabulary) {
  const Logits logits(values, s, counts, bias);
  Choice choice;
  block_sync();
  if (is_filtered(s)) {
    choice = draw_filtered(scratch, logits, s, position, vocabulary);
  } else if (s.temperature > 0) {
    const Divisor by_temperature(s.temperature);
    const uint64_t noise = noise_key(s.seed, position);
    logits.each_fast([&](int id, float x, float computed) {
      choice.strange |= not_finite(bits_of(computed));
      choice.consider(by_temperature(x), id, noise);
    });
  } else {
    logits.each([&](int id, float x, float computed) {
      choice.strange |= not_finite(bits_of(computed));
      if (x > choice.most || (x == choice.most && id < choice.best)) choice.most = x, choice.best = id;
    });
  }
  keep_choice(choice.of_block(), counts, next);
}

/**
 * *next := the token chosen from logits [kVocab], counted in counts [kVocab]; kNotFinite if a logit is NaN or
 * infinite. By all threads of block 0.
 * Bias, unless it is null, penalties, temperature (0: the largest logit, the lowest id of equals), top_k, top_p, min_p; then the largest
 * logit / temperature + Gumbel noise.
 */
DEVICE void sample(Block& b, const float* logits, const Sampling& s, int* counts, const float* bias, int position, int scratch, int* next) {
  choose_token(b.scratch + scratch, logits, s, counts, bias, position, next, WholeVocabulary{});
}
