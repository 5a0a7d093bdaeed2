// The next token, by one block.
#pragma once
#include "filtered.cuh"

/** *next := what was chosen, which is counted in counts [kVocab]. By all threads. */
DEVICE void keep_choice(int token, int* counts, int* next) {
  if (threadIdx.x != 0) return;
  *next = token;
  if (token >= 0) atomicAdd(counts + token, kChosenOnce);  // nobody waits for it
}

/**
 * *next := the token chosen from logits `values` [kVocab], counted in counts [kVocab]; kNotFinite if a logit is NaN or
 * infinite. By all threads of block 0.
 * Bias, unless it is null, penalties, temperature (0: the largest logit, the lowest id of equals), top_k, top_p, min_p; then the largest
 * logit / temperature + Gumbel noise.
 */
DEVICE void sample(Block& b, const float* values, const Sampling& s, int* counts, const float* bias, int position, int scratch, int* next) {
  const Logits logits(values, s, counts, bias);
  Choice choice;
  block_sync();
  if (is_filtered(s)) {
    choice = draw_filtered(b.scratch + scratch, logits, s, position);
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
