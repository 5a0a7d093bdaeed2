// The next token. Nothing here depends on the order of a sum: masses are integers, noise belongs to the token.
#pragma once
#include "host/finite.h"
#include "host/noise.h"
#include "lib/scratch.h"
#include "lib/simd.h"
#include "lib/team.h"

/** Larger z, larger key; NaN is smallest, below -inf. */
DEVICE uint32_t ordered_key(float z) {
  const uint32_t bits = bits_from_float(z);
  if (z != z) return 0;
  return bits & 0x80000000 ? ~bits : bits | 0x80000000;
}
DEVICE float value_of(uint32_t key) { return float_from_bits(key & 0x80000000 ? key & 0x7fffffff : ~key); }

/** The logit of token i as it competes: with its bias, if there are any, and its penalties. */
DEVICE float adjusted(const float* logits, int i, const Sampling& s, const int* counts, const float* bias) {
  const float logit = bias ? logits[i] + bias[i] : logits[i];
  const int count = counts[i];
  return count > 0 ? penalised(logit, count, s.repetition_penalty, s.presence_penalty, s.frequency_penalty) : logit;
}

/** Whether counts change any logit. */
DEVICE bool penalises(const Sampling& s) { return s.repetition_penalty != 1 || s.presence_penalty != 0 || s.frequency_penalty != 0; }

/** Tokens of one word of a mask. */
constexpr int kWordTokens = 32;

/** Tokens from `first` on, of those below `vocab`. */
DEVICE uint32_t named_from(int first, int vocab) { return vocab - first < kWordTokens ? (1u << (vocab - first)) - 1 : ~0u; }

/** Which of these may be chosen. */
DEVICE uint32_t allowed_from(const Choice& by, int first, int vocab) {
  return by.mask ? by.mask[first / kWordTokens] & named_from(first, vocab) : named_from(first, vocab);
}

DEVICE bool all_allowed(const Choice& by, int first, int vocab) { return allowed_from(by, first, vocab) == named_from(first, vocab); }

/** The largest logit's id, the lowest of equals; kNotFinite if one is NaN or infinite before bias and penalties. Without penalties most of them are looked at
 *  several at a time, and one by one only where one of these is larger than all before. */
DEVICE int sample_greedy(const float* logits, const Sampling& s, const int* counts, const Choice& by, int vocab) {
  if (!all_finite(logits, vocab)) return kNotFinite;
  int best = 0;
  float most = -__builtin_inff();
  const bool several = !penalises(s);
  for (int first = 0; first < vocab; first += kWordTokens) {
    uint32_t allowed = allowed_from(by, first, vocab);
    if (allowed == ~0u && several) {
      Vec highest = splat(most);
      for (int i = first; i < first + kWordTokens; i += kLanes)
        highest = max_of(by.bias ? load(logits + i) + load(by.bias + i) : load(logits + i), highest);
      if (!(max_lane(highest) > most)) continue;
    }
    for (; allowed != 0; allowed &= allowed - 1) {
      const int i = first + __builtin_ctz(allowed);
      const float logit = adjusted(logits, i, s, counts, by.bias);
      if (logit > most) {
        most = logit;
        best = i;
      }
    }
  }
  return best;
}
static_assert(kWordTokens % kLanes == 0);

/** The largest key such that the keys from it up weigh at least need_of(the weight of all), found digit by digit from above. */
template <class Weigh, class Need>
DEVICE uint32_t key_weighing(const uint32_t* keys, int n, Weigh&& weigh, Need&& need_of) {
  uint64_t bins[2048], need = 0;
  uint32_t prefix = 0;
  for (int shift = 21, bits = 11; bits > 0; bits = shift < 11 ? shift : 11, shift -= bits) {
    const uint32_t fixed = shift + bits == 32 ? 0 : ~0u << (shift + bits);
    memset(bins, 0, sizeof bins);
    for (int i = 0; i < n; ++i) {
      if ((keys[i] & fixed) == prefix) bins[keys[i] >> shift & ((1u << bits) - 1)] += weigh(keys[i]);
    }
    if (fixed == 0) {
      uint64_t total = 0;
      for (uint64_t bin : bins) total += bin;
      need = need_of(total);
    }
    int bin = (1 << bits) - 1;
    for (; bin > 0 && bins[bin] < need; --bin) need -= bins[bin];
    prefix |= (uint32_t)bin << shift;
  }
  return prefix;
}

/** Candidates with keys from cut up move to the front; returns how many. */
DEVICE int keep_from(uint32_t* keys, int* ids, int n, uint32_t cut) {
  int kept = 0;
  for (int i = 0; i < n; ++i) {
    if (keys[i] < cut) continue;
    keys[kept] = keys[i];
    ids[kept++] = ids[i];
  }
  return kept;
}

/** Fills keys and ids [vocab] with the candidates that a mask, temperature, top_k, top_p and min_p leave; returns how many, 0 if a logit is NaN or
 *  infinite before bias and penalties. */
DEVICE int sample_candidates(const float* logits, const Sampling& s, const int* counts, const Choice& by, int vocab, uint32_t* keys, int* ids) {
  if (!all_finite(logits, vocab)) return 0;
  uint32_t top = 0;
  int n = 0;
  const auto fill = [&, temperature = s.temperature](auto&& logit_of) {
    const auto key_of = [&](int i) { return ordered_key(logit_of(i) / temperature); };
    for (int first = 0; first < vocab;) {
      int end = first;
      while (end < vocab && all_allowed(by, end, vocab)) end = smaller(end + kWordTokens, vocab);
      for (int i = first; i < end; ++i) {
        keys[n + i - first] = key_of(i);
        ids[n + i - first] = i;
        top = keys[n + i - first] > top ? keys[n + i - first] : top;
      }
      n += end - first;
      first = smaller(end + kWordTokens, vocab);
      const uint32_t allowed = end < vocab ? allowed_from(by, end, vocab) : 0;
      if (allowed == 0) continue;
      uint32_t word[kWordTokens] = {};
      for (int i = end; i < first; ++i) {
        word[i - end] = key_of(i);
        top = (allowed >> (i - end) & 1) && word[i - end] > top ? word[i - end] : top;
      }
      for (int i = end; i < first; ++i) {  // what is not allowed is written over
        keys[n] = word[i - end];
        ids[n] = i;
        n += allowed >> (i - end) & 1;
      }
    }
  };
  const float* const bias = by.bias;
  if (penalises(s)) fill([&](int i) { return adjusted(logits, i, s, counts, bias); });
  else if (bias) fill([=](int i) { return logits[i] + bias[i]; });
  else fill([=](int i) { return logits[i]; });
  if (s.top_k > 0 && s.top_k < n) {
    const uint64_t k = s.top_k;
    n = keep_from(keys, ids, n, key_weighing(keys, n, [](uint32_t) { return (uint64_t)1; }, [k](uint64_t) { return k; }));
  }
  const auto mass = [top](uint32_t key) { return key == top ? exp_fixed(0) : exp_fixed(value_of(key) - value_of(top)); };
  if (s.top_p < 1) {
    const double share = s.top_p;
    const auto need = [share](uint64_t total) {
      const uint64_t mass = (uint64_t)__builtin_ceil(share * (double)total);
      return mass > 0 ? mass : 1;
    };
    n = keep_from(keys, ids, n, key_weighing(keys, n, mass, need));
  }
  if (s.min_p > 0) {
    const uint64_t least = (uint64_t)((double)s.min_p * (double)exp_fixed(0));
    int kept = 0;
    for (int i = 0; i < n; ++i) {
      if (keys[i] != top && mass(keys[i]) < least) continue;
      keys[kept] = keys[i];
      ids[kept++] = ids[i];
    }
    n = kept;
  }
  return n;
}

/** gumbel_bound(bits), or more: zeros are counted by the exponent of a float, of which compilers make vectors. The bit behind the first is left
 *  out, so that rounding makes no power of two more of it. */
DEVICE float noise_limit(uint32_t bits) {
  const uint32_t half = bits >> 1;
  const int exponent = (int)(bits_from_float((float)(int32_t)(half & ~(half >> 1))) >> 23);
  return (float)(158 - exponent) * 0.69315f;
}

/** The token chosen from logits [kVocab], or kNotFinite; counts [kVocab] are what the penalties count. */
DEVICE int sample_one(Block& b, const float* logits, const Sampling& s, const int* counts, const Choice& by, int position, int scratch) {
  const int vocab = s.vocab > 0 ? smaller(s.vocab, kVocab) : kVocab;
  if (!(s.temperature > 0)) return sample_greedy(logits, s, counts, by, vocab);
  uint32_t* const keys = (uint32_t*)(b.scratch + scratch);
  int* const ids = (int*)keys + kVocab;
  const int n = sample_candidates(logits, s, counts, by, vocab, keys, ids);
  const uint64_t key = noise_key(s.seed, position);
  int best = n > 0 ? ids[0] : kNotFinite;
  float most = -__builtin_inff();
  const auto may_win = [&](int i) { return !(value_of(keys[i]) + noise_limit(noise_bits(key, ids[i])) < most); };
  const auto look = [&](int begin, int end) {
    for (int i = begin; i < end; ++i) {
      if (!may_win(i)) continue;  // most candidates cannot: no logarithms for them
      const float noisy = value_of(keys[i]) + gumbel(noise_bits(key, ids[i]));
      if (noisy > most) {
        most = noisy;
        best = ids[i];
      }
    }
  };
  constexpr int together = 4 * kLanes;
  const int whole = n / together * together;
  for (int first = 0; first < whole; first += together) {
    uint32_t any = 0;
    for (int i = first; i < first + together; ++i) any |= may_win(i) ? 1 : 0;
    if (any) look(first, first + together);
  }
  look(whole, n);
  return best;
}

/** *next := the token chosen for a position from the last token's logits. Where drafts are checked, next [draft_count + 1]: a token for each row of
 *  logits, up to the first that is no draft; those that are drafts are counted. By block 0. */
DEVICE void sample(Block& b, const float* logits, const Sampling& s, int* counts, int position, int scratch, int* next) {
  const Choice* by = b.team->choices;
  for (int behind = b.team->draft_count;; --behind, ++by, ++next) {
    *next = sample_one(b, logits - (int64_t)behind * kVocab, s, counts, *by, position - behind, scratch);
    if (behind == 0 || *next != b.team->drafts[b.team->draft_count - behind]) return;
    counts[*next] += kChosenOnce;
  }
}
