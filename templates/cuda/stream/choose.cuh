// The end of a pass: every block hands over the best of its logits, or says that its logits are stored; then all know the next token.
#pragma once
#include "draw.cuh"

constexpr unsigned kStopFlag = 1u << 30;
static_assert(sample_scratch() <= kSamplerFloats, "see samplerFloats in codegen/schemes/stream/sizes.ts");
static_assert(kVocab < (1 << 30) && kBlocks <= kThreads, "ids leave room for the flag; a thread looks at one block");

/** The best logit of a thread, as a number that compares like (logit, smaller id). */
struct Best {
  uint64_t value = 0;

  DEVICE void consider(float logit, int id) { consider(logit, logit, id); }
  /** By a score that was made of the logit. */
  DEVICE void consider(float logit, float score, int id) {
    const uint32_t key = not_finite(bits_of(logit)) ? kStrangeKey : ordered_key(score + 0.0f);
    const uint64_t other = uint64_t(key) << 32 | uint32_t(~id);
    if (other > value) value = other;
  }
  DEVICE float score() const { return value_of(uint32_t(value >> 32)); }
  /** The id; 0 where there is none, since no logit is a number or the launch has failed. */
  DEVICE static int id_of(uint64_t value) {
    const uint32_t id = ~uint32_t(value);
    return id < uint32_t(kVocab) ? int(id) : 0;
  }
  /** The id, or kNotFinite where a logit is NaN or infinite. */
  DEVICE static int token_of(uint64_t value) { return value >> 32 == kStrangeKey ? kNotFinite : id_of(value); }
};

/** True when every block can find the token itself. */
BOTH inline bool is_greedy(const LaunchArgs& pass) { return is_greedy(pass.sampling, pass.bias); }

/** Whether the best of all blocks is the token: a pass of one token looks at scores, others at logits as they are. */
template <int T>
BOTH bool best_decides(const LaunchArgs& pass) {
  return T == 1 ? !is_filtered(pass.sampling) : is_greedy(pass);
}

/** Ids below this may be chosen. */
DEVICE int known_ids(const Sampling& s) { return s.vocab > 0 ? min(s.vocab, kVocab) : kVocab; }

/** What the choice of the token behind a row of logits depends on, and where it goes. */
struct ToChoose {
  const Sampling& sampling;
  const float* bias;
  int* counts;
  int* next;
  int position;  // of the token that is chosen
};

/** Of the token behind one of a launch: its own in a batch or a check. */
DEVICE ToChoose to_choose(const LaunchArgs& pass, int token) {
  if (!pass.batch) return {pass.sampling, pass.bias, pass.counts, pass.next, pass.position + token + 1};
  const BatchRow& row = pass.rows[token];
  return {row.sampling, row.bias, pass.counts + size_t(row.slot) * kVocab, pass.next + row.slot, row.position + 1};
}

/** What a token is chosen by in the place of its logit: that with its bias and penalties, and where nothing is left out, divided by the temperature
 *  and with noise. So all blocks choose as they do among logits. */
struct Score {
  const Logits logits;
  const Divisor by_temperature;
  const bool draws;
  const uint64_t noise;

  DEVICE explicit Score(const ToChoose& by)
      : logits(nullptr, by.sampling, by.counts, by.bias),
        by_temperature(by.sampling.temperature),
        draws(by.sampling.temperature > 0 && !is_filtered(by.sampling)),
        noise(noise_key(by.sampling.seed, by.position)) {}

  DEVICE void consider(float logit, int id, Best& best) const {
    float score = logits.changed(id, logit);
    if (draws) {
      score = by_temperature(score);
      const uint32_t bits = noise_bits(noise, id);
      if (score + gumbel_bound(bits) < best.score() && !not_finite(bits_of(logit))) return;  // most cannot win: no logarithms for them
      score += gumbel_noise(bits);
    }
    best.consider(logit, score, id);
  }
};

/** What the LM head does with its rows. */
template <int T>
struct LogitRows {
  const LaunchArgs& pass;
  const bool stores, as_they_are;
  const int token;  // the one of whose logits this thread looks for the best; where each is asked for, that of all its outputs
  const int limit;  // ids that may be chosen
  const Score score;

  DEVICE explicit LogitRows(const Cta<T>& cta)
      : pass(cta.pass),
        stores(cta.chooses_each() ? pass.keep_logits : !pass.sample || pass.keep_logits || !best_decides<T>(pass)),
        as_they_are(T > 1 || is_greedy(pass)),
        token(cta.chooses_each() ? int(threadIdx.x) / 4 % T : pass.tokens - 1),
        limit(known_ids(cta.batched() ? pass.rows[token].sampling : pass.sampling)),
        score({pass.sampling, pass.bias, pass.counts, nullptr, cta.position + pass.tokens}) {}

  DEVICE void take(const Output& o, Best& best) const {
    if (!o.in_bounds || o.row >= kVocab || o.token >= pass.tokens) return;
    const float logit = kLogitFactor * o.y;
    if (stores && o.token >= pass.first_logits) pass.logits[size_t(o.token - pass.first_logits) * kVocab + o.row] = logit;
    if (o.token != token || o.row >= limit) return;
    if (as_they_are)
      best.consider(logit, o.row);
    else
      score.consider(logit, o.row, best);
  }
};

/** A candidate: the key of a block's best logit, and its id with room for a flag. */
template <class Candidates>
DEVICE void publish_candidate(const Candidates& to, int step, int block, uint64_t best, bool stop) {
  to.publish(step, 2 * block, uint32_t(best >> 32));
  to.publish(step, 2 * block + 1, uint32_t(Best::id_of(best)) | (stop ? kStopFlag : 0));
}

/** The candidate of block threadIdx.x, 0 beyond the last, by all computing threads; cta.s.leave: the host wants the reply to end. */
template <int T, class Candidates>
DEVICE uint64_t candidate_of_block(Cta<T>& cta, const Candidates& candidates, int step, Stage stage) {
  if (int(threadIdx.x) >= kBlocks) return 0;
  Words<2> candidate{};
  wait_until(cta.s.flags, place_of(stage, cta.layer, kWaitsForWords), [&] {
    candidate = load_words<2>(candidates.of(step), 2 * int(threadIdx.x));
    return arrived(candidate);
  });
  if (threadIdx.x == 0) cta.s.leave = (candidate.v[1] & kStopFlag) != 0;
  return uint64_t(candidate.v[0]) << 32 | uint32_t(~(candidate.v[1] & ~kStopFlag));
}

/**
 * The next token or kNotFinite, the same in every block; cta.s.leave tells whether the host wants the reply to end. `best` is this thread's best score.
 * All blocks read all candidates. Where the best score does not decide, each lists what may be drawn of its rows, and all draw among what is listed;
 * where that is not enough, block 0 draws among all logits, and the others wait for its word. Passes of several tokens leave that to a kernel of its own
 * (see `sample_logits`).
 */
template <class P, int T, class Candidates, class SampledToken>
DEVICE int choose(Cta<T>& cta, const Candidates& candidates, const SampledToken& sampled_token, const Best& best, int step, Stage stage) {
  const uint64_t mine = block_largest(best.value);
  const LaunchArgs& pass = cta.pass;
  const bool decides = T > 1 || best_decides<T>(pass);
  if (threadIdx.x == 0) {
    publish_candidate(candidates, step, cta.index(), mine, cta.index() == 0 && cta.s.flags.stop);
    if (!decides) __threadfence();  // logits, before the words that announce a share
  }
  const uint64_t candidate = candidate_of_block(cta, candidates, step, stage);
  if (decides) {
    const int token = Best::token_of(block_largest(candidate));
    if (cta.index() == 0 && threadIdx.x == 0 && token >= 0) {
      pass.counts[token] += kChosenOnce;
      if (has_penalties(pass.sampling)) __threadfence();  // all blocks read them in the next pass
    }
    return token;
  }
  if constexpr (T == 1) {
    SharedDraw<P, Candidates> draw(cta, candidates, step, uint32_t(candidate >> 32));
    draw.announce();
    const unsigned place = place_of(stage, cta.layer, kWaitsForWords);
    const bool by_all = draw.gather(place);
    if (by_all || cta.index() == 0) {
      const int token = draw.choose().of_block();
      if (threadIdx.x == 0) cta.s.token = token;
      if (cta.index() == 0 && threadIdx.x == 0) {
        keep_choice(token, pass.counts, pass.next);
        if (has_penalties(pass.sampling)) __threadfence();  // all blocks read the counts in the next pass
        sampled_token.publish(step, 0, unsigned(token));    // read or not: its places take turns
      }
    } else if (threadIdx.x == 0) {
      unsigned word = 0;
      wait_until(cta.s.flags, place, [&] {
        word = load_words<1>(sampled_token.of(step), 0).v[0];
        return word != kSentinel;
      });
      cta.s.token = int(word);
    }
    cta.sync();
  }
  return cta.s.token;
}

/** Hands a token to the host, as one more than its id, since 0 is "not yet", and to the next launch, which may have been asked for already. */
DEVICE void reply(int* next, unsigned* to, int token) {
  *next = max(token, 0);
  asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(to)), "r"(unsigned(token) + 1) : "memory");
}
DEVICE void reply(const LaunchArgs& pass, int step, int token) { reply(pass.next, pass.reply + step, token); }

/** Leaves the best logit that this block has of each row to sample_logits; `best` is this thread's, of its token. */
template <int T>
DEVICE void keep_bests(Cta<T>& cta, const Best& best) {
  static_assert(sizeof(uint64_t) * kWarps * T <= sizeof cta.s.sums, "sums are not in use any more");
  const auto of_warp = reinterpret_cast<uint64_t*>(&cta.s.sums);  // [kWarps][T]
  uint64_t value = best.value;
#pragma unroll
  for (int other = 1; other < 32; other *= 2) {
    if (other >= 4 && other < 4 * T) continue;  // of another token
    value = Larger{}(value, __shfl_xor_sync(~0u, value, other));
  }
  cta.sync();
  if (lane() % 4 == 0 && lane() < 4 * T) of_warp[warp() * T + int(threadIdx.x) / 4 % T] = value;
  cta.sync();
  if (int(threadIdx.x) >= cta.pass.tokens) return;
  value = 0;
  for (int i = 0; i < kWarps; ++i) {
    const bool has = i % divide_up(T, 8) == int(threadIdx.x) / 8;  // a warp has outputs of eight tokens at most
    if (has) value = Larger{}(value, of_warp[i * T + int(threadIdx.x)]);
  }
  cta.pass.bests[int(threadIdx.x) * kBlocks + cta.index()] = value;
}

DEVICE bool is_stop(const LaunchArgs& pass, int token) {
  bool found = false;
  for (int i = 0; i < pass.stop_count; ++i) found |= __ldg(pass.stop_ids + i) == token;
  return found;
}
