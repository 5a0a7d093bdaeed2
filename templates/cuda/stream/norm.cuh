// A norm as a stage of its own: one block a token makes it, and hands it to all.
#pragma once
#include "product.cuh"

/** Publishes the normed words of this block's tokens: x / sqrt(mean(x^2) + eps) w, rounded once. */
template <int K, int T, class Input, class To>
DEVICE void norm_tokens(Cta<T>& cta, const Input& input, const To& to, int epoch, Stage stage) {
  constexpr int kWords = divide_up(K, 2), kLoads = divide_up(kWords, kThreads);
  const auto word = [](int i) { return int(threadIdx.x) + i * kThreads; };
  for (int token = cta.index(); token < T; token += kBlocks) {
    unsigned x[kLoads], scale[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i)
      scale[i] = word(i) < kWords ? __ldg(reinterpret_cast<const unsigned*>(input.norm) + word(i)) : 0;
    if (input.words.words) {
      cta.delay(stage);
      warp_wait_until(cta.s.flags, place_of(stage, cta.layer, kWaitsForWords), [&] {
        bool all = true;
#pragma unroll
        for (int i = 0; i < kLoads; ++i) x[i] = word(i) < kWords ? load_words<1>(input.words, spread_at<T>(word(i), token)).v[0] : 0;
#pragma unroll
        for (int i = 0; i < kLoads; ++i) all &= x[i] != kSentinel;
        return all;
      });
    } else {
      const auto* const row = stored_row(input.table.rows, input.table.ids[token], K);
#pragma unroll
      for (int i = 0; i < kLoads; ++i) x[i] = word(i) < kWords ? words_of<1>(row, word(i)).v[0] : 0;
    }
    cta.mark(stage, kPhaseOthers);
    float square = 0;
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const float2 pair = pair_of(x[i]);
      square = fmaf(pair.x, pair.x, fmaf(pair.y, pair.y, square));
    }
    float* const squares = cta.s.squares[cta.norm_buffer][0];
    cta.norm_buffer ^= 1;
    square = warp_sum(square);
    if (lane() == 0) squares[warp()] = square;
    cta.sync();
    const float factor = inverse_root(sum_of_warps(squares) * (1.0f / K) + kNormEps);
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      if (word(i) >= kWords) break;
      const float2 pair = pair_of(x[i]), weight = pair_of(scale[i]);
      to.publish(epoch, spread_at<T>(word(i), token), pair_word(pair.x * factor * weight.x, pair.y * factor * weight.y));
    }
    cta.mark(stage, kPhasePublish);
  }
}
