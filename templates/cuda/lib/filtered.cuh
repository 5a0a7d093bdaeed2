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

/** block_total and block_largest, of which a draw has several. */
static ONCE uint64_t total_in_draw(uint64_t x) { return block_total(x); }
static ONCE uint64_t largest_in_draw(uint64_t x) { return block_largest(x); }

/** The largest key of the block. */
static ONCE uint32_t largest_key_in_draw(uint32_t key) {
  static_assert(kWarps <= 32, "a lane for each");
  uint32_t* const parts = reinterpret_cast<uint32_t*>(shared_parts());
  key = warp_largest_key(key);
  if (lane() == 0) parts[warp()] = key;
  block_sync();
  key = warp_largest_key(lane() < kWarps ? parts[lane()] : 0);
  block_sync();
  return key;
}

/** A key such that those from it up weigh at least `need`, and without the least of them less; 0 if all weigh less. sum_from(key) is this thread's
 *  share of that weight. */
template <class SumFrom>
DEVICE uint32_t key_weighing(uint64_t need, SumFrom&& sum_from) {
  uint32_t key = 0;
#pragma unroll 1
  for (uint32_t bit = 0x80000000u; bit != 0; bit >>= 1) {
    const uint64_t sum = total_in_draw(sum_from(key | bit));
    if (sum >= need) key |= bit;
    if (sum == need) break;  // a larger one leaves the same
  }
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
    const float noisy = z + gumbel_noise(bits);
    if (noisy > most || (noisy == most && id < best)) most = noisy, best = id;
  }

  /** The block's choice: the largest, the lowest id of equals; 0 if there is none, kNotFinite if any thread's was strange. */
  DEVICE int of_block() const {
    const uint32_t key = strange ? kStrangeKey : ordered_key(most + 0.0f);
    const uint64_t all = largest_in_draw((uint64_t)key << 32 | (uint32_t)~best);
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
  /** body as in Logits.each, for all ids. */
  template <class Body>
  DEVICE void each(bool, const Logits& logits, int*, Body&& body) const {
    logits.each_fast(body);
  }
};

/** The largest of all threads' keys that at least `need` of the first `n` reach; the others' are 0. @param all a word for each thread, at a multiple
 *  of 16 bytes */
DEVICE uint32_t reached_by(int need, uint32_t mine, int n, uint32_t* all) {
  all[threadIdx.x] = mine;
  block_sync();
  int reaching = 0;
  if (int(threadIdx.x) < n) {
#pragma unroll 4
    for (int i = 0; i < n; i += 4) {
      const uint4 four = *reinterpret_cast<const uint4*>(all + i);
      reaching += int(four.x >= mine) + int(four.y >= mine) + int(four.z >= mine) + int(four.w >= mine);
    }
  }
  return largest_key_in_draw(reaching >= need ? mine : 0);
}

/** Keys from `least` up. */
struct Reaching {
  const uint32_t least;
  const float low;  // below it no quotient is rounded up to the least: most logits cost no division
  const Divisor by_temperature;

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
  int* const threads;    // a word for each, at a multiple of 16 bytes as the others are
  int n = 0;             // beyond kCandidates they are not there

  DEVICE explicit CandidateList(float* scratch)
      : keys(reinterpret_cast<uint32_t*>(scratch)), ids(reinterpret_cast<int*>(scratch) + kCandidates), threads(ids + kCandidates) {}

  /** @param candidate a key, and its id in the low 32 bits */
  DEVICE void put(int at, uint64_t candidate) { keys[at] = uint32_t(candidate >> 32), ids[at] = int(uint32_t(candidate)); }

  /** Lists the keys that reach. */
  DEVICE void list(const Reaching& reaches, const Logits& logits) {
    __shared__ int found;
    if (threadIdx.x == 0) found = 0;
    block_sync();
    logits.each_fast([&](int id, float x, float) {
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
    if (few && nucleus) share = share_of(top_p, total_in_draw(from(low, false)));
    if (nucleus) low = max(low, key_weighing(share, [&](uint32_t key) { return from(key, false); }));
    return low;
  }

  /** The same of at most kCompared candidates. */
  DEVICE uint32_t least_of(uint64_t share, const CandidateList& list, const Kept& kept) const {
    const bool mine = int(threadIdx.x) < list.n;
    const uint32_t key = mine ? list.keys[threadIdx.x] : 0;
    uint64_t* const masses = reinterpret_cast<uint64_t*>(list.keys + kCompared);  // where no candidate is
    if (mine) masses[threadIdx.x] = kept.mass(key);
    else if (int(threadIdx.x) < kCompared) list.keys[threadIdx.x] = 0;
    block_sync();
    int count = 0;
    uint64_t mass = 0;
    if (mine) {
#pragma unroll 4
      for (int i = 0; i < list.n; i += 2) {
        const uint2 keys = *reinterpret_cast<const uint2*>(list.keys + i);
        const ulonglong2 two = *reinterpret_cast<const ulonglong2*>(masses + i);
        if (keys.x >= key) ++count, mass += two.x;
        if (keys.y >= key) ++count, mass += two.y;
      }
    }
    uint32_t low = few ? largest_key_in_draw(mine && count >= top_k ? key : 0) : 0;
    if (few && nucleus) share = share_of(top_p, largest_in_draw(mine && key >= low ? mass : 0));
    if (nucleus) low = max(low, largest_key_in_draw(mine && mass >= share ? key : 0));
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
    kept.top = largest_key_in_draw(my_top);
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
    const bool all = listed <= least_allowed();
    if (list.n > kCandidates || (filter.few && list.n < s.top_k && !all)) return false;
    if (!filter.few && !filter.nucleus) return true;
    if (list.n <= kCompared) {
      kept.low = filter.least_of(share, list, kept);
    } else {
      Listed mine;
      mine.read(list, kept);
      kept.low = filter.least_of(share, [&](uint32_t low, bool counting) { return mine.from(low, list.n, counting); });
    }
    return filter.few || kept.low > 0;
  }

  /** What is drawn among the candidates. */
  DEVICE Choice among(const CandidateList& list) const {
    Choice choice;
    for (int i = int(threadIdx.x); i < list.n; i += kThreads) choice.consider(list.keys[i], list.ids[i], kept, noise);
    return choice;
  }
};

/** A draw for which candidates are missing: among all logits. */
template <class Vocabulary>
struct DrawAmongAll {
  Draw draw;
  const uint32_t my_top;  // this thread's largest key
  const Vocabulary vocabulary;
  const Logits logits;
  int* const words;  // one for each thread

  enum class Find { number, mass, choice };
  struct Found {
    uint64_t sum = 0;  // this thread's share
    Choice choice;
  };

  /** Looks at the keys from `least` up. */
  ONCE Found look(uint32_t least, Find what) const {
    Found found;
    const Kept kept = draw.kept;  // these in registers
    const uint64_t noise = draw.noise;
    const Reaching reaches(least, draw.s.temperature, draw.by_temperature);
    vocabulary.each(my_top >= least, Logits(logits), words, [&](int id, float x, float) {
      const uint32_t key = reaches(x);
      if (key == 0) return;
      if (what == Find::choice) found.choice.consider(key, id, kept, noise);
      else found.sum += what == Find::number ? 1 : kept.mass(key);
    });
    return found;
  }

  /** The best is drawn, unless what lies above it is as much as is kept, or more; then the best of what lies above is, and so on. The first is kept as
   *  often as top_p says, and each look leaves less to look at. @param share as in Draw.settle */
  ONCE Choice choose(uint64_t share) {
    const auto& [few, nucleus, top_k, top_p] = draw.filter;
    uint64_t need = few ? top_k : nucleus ? share : ~0ull;
    if (few && nucleus) {
      draw.kept.low = key_weighing(need, [&](uint32_t key) { return look(key, Find::number).sum; });
      need = share_of(top_p, total_in_draw(look(draw.kept.low, Find::mass).sum));
    }
    for (;;) {
      const Choice choice = look(max(draw.floor(), draw.least_allowed()), Find::choice).choice;
      const int best = choice.of_block();
      const uint32_t best_key = draw.key(logits.changed(best, __ldcg(logits.values + best)));
      if (best_key < draw.kept.low || total_in_draw(look(best_key + 1, nucleus ? Find::mass : Find::number).sum) < need) return choice;
      draw.kept.low = best_key + 1;
    }
  }
};

/** The choice of a draw by one block. */
DEVICE Choice draw_filtered(float* scratch, const Logits& logits, const Sampling& s, int position) {
  Draw draw(s, logits.vocab, position);
  Choice choice;
  Largest mine;
  logits.each_fast([&](int, float x, float computed) { mine.consider(x, computed); });
  const uint32_t my_top = mine.strange ? kStrangeKey : draw.key(mine.most);
  choice.strange = !draw.begin(my_top);
  if (choice.strange) return choice;
  uint64_t share = 0;
  if (draw.weighs_all()) {
    uint64_t total = 0;
    logits.each([&](int, float x, float) { total += draw.kept.mass(draw.key(x)); });
    share = share_of(s.top_p, total_in_draw(total));
  }
  CandidateList list(scratch);
  list.list(Reaching(draw.least_listed(my_top, kThreads, list.threads), s.temperature, draw.by_temperature), logits);
  if (draw.settle(list, share)) return draw.among(list);
  return DrawAmongAll<WholeVocabulary>{draw, my_top, {}, logits, list.threads}.choose(share);
}
