// The end of a pass: every block offers the best of its logits, or says that its logits are stored; then all know the next token.
#pragma once
#include "lib/sampler.cuh"
#include "product.cuh"

/** An offer: the key of the best logit, and its id with room for a flag. Published by each block in each pass. */
using Offers = Exchange<2 * kBlocks>;
/** The token that block 0 has sampled. */
using Chosen = Exchange<1>;

constexpr unsigned kStopFlag = 1u << 30;
static_assert(kVocab < (1 << 30) && kBlocks <= kThreads, "ids leave room for the flag; a thread looks at one block");

/** The best logit of a thread, as a number that compares like (logit, smaller id). */
struct Best {
  uint64_t value = 0;

  DEVICE void consider(float logit, int id) {
    const uint64_t other = uint64_t(ordered_key(logit + 0.0f)) << 32 | uint32_t(~id);
    if (other > value) value = other;
  }
  /** The id; 0 where there is none, since no logit is a number or the launch has failed. */
  DEVICE static int id_of(uint64_t value) {
    const uint32_t id = ~uint32_t(value);
    return id < uint32_t(kVocab) ? int(id) : 0;
  }
};

/** True when every block can find the token itself: the largest logit, no penalties. */
DEVICE bool is_greedy(const Sampling& s) { return !(s.temperature > 0) && s.repetition_penalty == 1 && s.presence_penalty == 0; }

/**
 * The next token, the same in every block; b.s.leave tells whether the host wants the reply to end. `best` is this thread's best logit.
 * Greedy: all blocks read all offers. Otherwise block 0 samples from the stored logits, and all wait for its word.
 */
template <int T>
DEVICE int choose(Worker<T>& b, const Offers& offers, const Chosen& chosen, const Best& best, int step, int stage) {
  const uint64_t mine = block_largest(best.value);
  const bool greedy = is_greedy(b.pass.sampling);
  if (threadIdx.x == 0) {
    const bool stop = b.index() == 0 && b.s.flags.stop;
    if (!greedy) __threadfence();  // the logits, before the offer that announces them; block_largest has ordered the block's stores
    offers.publish(step, 2 * b.index(), uint32_t(mine >> 32));
    offers.publish(step, 2 * b.index() + 1, uint32_t(Best::id_of(mine)) | (stop ? kStopFlag : 0));
  }
  if (greedy || b.index() == 0) {
    Best all;
    if (int(threadIdx.x) < kBlocks) {
      Words<2> offer{};
      wait_until(b.s.flags, place_of(stage, b.layer, kWaitsForWords), [&] {
        offer = load_words<2>(offers.of(step), 2 * int(threadIdx.x));
        return arrived(offer);
      });
      all.value = uint64_t(offer.v[0]) << 32 | uint32_t(~(offer.v[1] & ~kStopFlag));
      if (threadIdx.x == 0) b.s.leave = (offer.v[1] & kStopFlag) != 0;
    }
    const int token = Best::id_of(block_largest(all.value));
    if (greedy) {
      if (b.index() == 0 && threadIdx.x == 0) ++b.pass.counts[token];
      return token;
    }
    __threadfence();
    const float* const logits = b.pass.logits + size_t(b.pass.tokens - b.pass.first_logits - 1) * kVocab;
    choose_token(b.pass.sampler, logits, b.pass.sampling, b.pass.counts, b.position + b.pass.tokens, b.pass.next);
    b.sync();
    if (threadIdx.x == 0) chosen.publish(step, 0, unsigned(*b.pass.next) | (b.s.leave ? kStopFlag : 0));
  }
  if (threadIdx.x == 0) {
    unsigned word = 0;
    wait_until(b.s.flags, place_of(stage, b.layer, kWaitsForWords), [&] {
      word = load_words<1>(chosen.of(step), 0).v[0];
      return word != kEmptyWord;
    });
    b.s.token = Best::id_of(~uint64_t(word & ~kStopFlag));
    b.s.leave = (word & kStopFlag) != 0;
  }
  b.sync();
  return b.s.token;
}

/** Hands a token to the host, as one more than its id, since 0 is "not yet", and to the next launch. */
DEVICE void reply(const Pass& pass, int step, int token) {
  *pass.next = token;
  asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(pass.reply + step)), "r"(unsigned(token) + 1) : "memory");
}

DEVICE bool is_stop(const Pass& pass, int token) {
  bool found = false;
  for (int i = 0; i < pass.stop_count; ++i) found |= __ldg(pass.stop_ids + i) == token;
  return found;
}
