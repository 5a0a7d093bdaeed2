// A draw of which top_k, top_p or min_p leave some. Nothing here depends on the order of a sum: masses are integers, noise belongs to the token.
#pragma once
#include "logits.cuh"

/** Candidates that are kept in b.scratch; more are read from the logits again, which is slower and gives the same token. */
constexpr int kCandidates = 1024;
/** How far below the top the candidates are looked for, where their number is not known [nats]. */
constexpr float kNear = 8;
/** So many candidates at most are compared each with all, a thread each; more are weighed bit by bit of a key. */
constexpr int kCompared = kThreads < 256 ? kThreads : 256;
/** Logits below it are forbidden, by a mask or a bias: they weigh nothing, and are candidates only where there are no others. */
constexpr float kForbidden = -1e20f;
/** Logits so far below the least that min_p keeps are below it, however their masses are rounded [nats]. */
constexpr float kSlack = 0.01f;

/** Floats of b.scratch that sample uses: a key and an id for each candidate, and a word for each thread. */
BOTH constexpr int sample_scratch() { return 2 * kCandidates + kThreads; }

static_assert(kCandidates % kThreads == 0);

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

  /** @param candidate a key, and its id in the low 32 bits */
  DEVICE void put(int at, uint64_t candidate) { keys[at] = uint32_t(candidate >> 32), ids[at] = int(uint32_t(candidate)); }

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
    if (few && nucleus) share = share_of(top_p, block_largest(mine && key >= low ? mass : 0));
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
  uint32_t listed = 0;  // where the candidates begin

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

  /** All candidates that there are reach it. */
  DEVICE uint32_t least_allowed() const {
    const uint32_t allowed = ordered_key(kForbidden);
    return kept.top < allowed ? 0 : allowed;
  }

  /** Whether nothing but a guess says where the candidates begin. */
  DEVICE bool guesses(int tops) const { return filter.few ? s.top_k > tops : filter.nucleus; }

  /** Where the candidates begin: as many logits as tops reach one of these; where that is a guess, so near the top. @param words one for each thread */
  DEVICE uint32_t least_listed(uint32_t my_top, int tops, int* words) {
    if (guesses(tops)) listed = near_top(kNear);
    else listed = filter.few ? reached_by(s.top_k, my_top, tops, reinterpret_cast<uint32_t*>(words)) : floor();
    return listed = max(listed, least_allowed());
  }

  /** Finds the least key that is kept; false: candidates are missing. @param share of the mass, where it is one of all logits */
  DEVICE bool settle(const CandidateList& list, uint64_t share) {
    if (list.n > kCandidates) return false;
    if (!filter.few && !filter.nucleus) return true;
    Listed mine;
    mine.read(list, kept);
    const uint64_t mass = filter.few ? 0 : block_total(mine.from(0, list.n, false));
    if (listed > least_allowed() && (filter.few ? list.n < s.top_k : mass < share)) return false;
    kept.low = list.n <= kCompared ? filter.least_of(share, list, kept)
                                   : filter.least_of(share, [&](uint32_t low, bool counting) { return mine.from(low, list.n, counting); });
    return true;
  }

  /** What is drawn among the candidates, or among all logits where some are missing. @param share as in settle  @param my_top this thread's largest key */
  template <class Vocabulary>
  DEVICE Choice among(const CandidateList& list, uint64_t share, uint32_t my_top, const Vocabulary& vocabulary, const Logits& logits) {
    if (!settle(list, share)) return among_all(share, my_top, vocabulary, logits, list.threads);
    Choice choice;
    for (int i = int(threadIdx.x); i < list.n; i += kThreads) choice.consider(list.keys[i], list.ids[i], kept, noise);
    return choice;
  }

 private:
  /** The same among all logits: the best of them is drawn, unless what lies above it is as much as is kept, or more; then the best of what lies above
   *  is, and so on. The first is kept as often as top_p says, and each look leaves less to look at. */
  template <class Vocabulary>
  DEVICE Choice among_all(uint64_t share, uint32_t my_top, const Vocabulary& vocabulary, const Logits& logits, int* words) {
    const auto each_from = [&](uint32_t least, auto&& body) {
      const Reaching reaches(least, s.temperature, by_temperature);
      vocabulary.each(my_top >= least, logits, words, [&](int id, float x, float) {
        if (const uint32_t key = reaches(x)) body(id, key);
      });
    };
    const auto weight_from = [&](uint32_t least, bool counting) {
      uint64_t sum = 0;
      each_from(least, [&](int, uint32_t key) { sum += counting ? 1 : kept.mass(key); });
      return sum;
    };
    uint64_t need = filter.few ? s.top_k : filter.nucleus ? share : ~0ull;
    if (filter.few && filter.nucleus) {
      kept.low = key_weighing(need, [&](uint32_t key) { return weight_from(key, true); });
      need = share_of(s.top_p, block_total(weight_from(kept.low, false)));
    }
    for (;;) {
      Choice choice;
      each_from(max(floor(), least_allowed()), [&](int id, uint32_t key) { choice.consider(key, id, kept, noise); });
      const int best = choice.of_block();
      const uint32_t best_key = key(logits.changed(best, __ldcg(logits.values + best)));
      if (best_key < kept.low || block_total(weight_from(best_key + 1, !filter.nucleus)) < need) return choice;
      kept.low = best_key + 1;
    }
  }
};

/** The choice of a draw by one block. Vocabulary: what is known of it beforehand, and how it is read. */
template <class Vocabulary>
DEVICE Choice draw_filtered(float* scratch, const Logits& logits, const Sampling& s, int position, const Vocabulary& vocabulary) {
  Draw draw(s, logits.vocab, position);
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
    logits.each([&](int, float x, float) { total += draw.kept.mass(draw.key(x)); });
    share = share_of(s.top_p, block_total(total));
  }
  CandidateList list(scratch);
  const int tops = vocabulary.known ? Vocabulary::kParts : kThreads;
  list.list(draw.least_listed(my_top, tops, list.threads), my_top, vocabulary, logits, s.temperature, draw.by_temperature);
  return draw.among(list, share, my_top, vocabulary, logits);
}
