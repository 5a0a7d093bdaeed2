// Attention of one kv head over a range of positions, and the merge of such splits.
#pragma once
#include "lib/cache.h"
#include "lib/matmul.h"
#include "lib/scratch.h"

/** Keys and values of positions that follow each other. */
template <class W> struct Stretch {
  const W* keys;  // of the first of them
  int positions;
};

/** How far behind a position that is multiplied others are asked for [bytes]. One Zen 5 core, 16 sequences at 900, 64 numbers, 45 MB in all: attention takes
 *  1,680 us where a burst asks for the next 32 positions while values are added; asked for key by key and value by value 8 KB ahead 1,280, 12 KB 1,155, 16 KB
 *  1,150, 24 KB 1,800. */
constexpr int kAttendAhead = 12 * 1024;

// As in step.h: members of a class stay in this instruction set's object.
namespace {
/** What comes from memory while other positions are multiplied: a burst of requests would wait for room, and so would they. */
template <class W> struct Ahead {
  Stretch<W> rest;    // of this sequence
  Stretch<W> behind;  // then of the next one; at least one position

  /** Asks for `bytes` of position p of them, from number `from` of its key and value on. */
  template <int64_t Apart> void ask(int p, int from, int bytes) const {
    const int over = p - rest.positions;
    const W* const keys = over < 0 ? rest.keys + p * Apart : behind.keys + smaller(over, behind.positions - 1) * Apart;
    for (int byte = 0; byte < bytes; byte += 64) __builtin_prefetch((const char*)(keys + from) + byte);
  }
};
}  // namespace

/** out[t * kAttendPositions + r] := dot(key r, query t), of keys `stride` apart, so many of which there are; those behind them are not read. A key's score
 *  is one sum of its own, wherever it lies. */
template <class Step, int T, int Width, class W>
DEVICE __attribute__((always_inline)) void score_keys(const W* keys, int64_t stride, int count, const float* queries, float* out) {
  constexpr int R = kLanes / T;
  Vec sums[kLanes] = {};
  for (int step = 0; step < Width / kStep; ++step) {
    for (int part = 0; part < Step::parts; ++part) {
      typename Step::Part w[R];
      for (int r = 0; r < R; ++r) w[r] = Step::weights(keys + (r < count ? r : 0) * stride + step * kStep, part);
      for (int t = 0; t < T; ++t) {
        const typename Step::Part x = Step::input(queries + t * input_floats<Step>(Width) + (step * Step::parts + part) * kLanes);
        for (int r = 0; r < R; ++r) sums[t * R + r] = multiply_add(w[r], x, sums[t * R + r]);
      }
    }
  }
  const Vec scores = sum_lanes(sums);
  for (int t = 0; t < T; ++t) memcpy(out + t * kAttendPositions, (const float*)&scores + t * R, R * sizeof(float));
}

/** The same of T queries with up to kAttendPositions keys; as many ahead are asked for meanwhile, unless it is null. */
template <class Step, int T, int Width, int D, int64_t Apart, class W>
NOINLINE void score_chunk(const W* keys, int64_t stride, int positions, const float* queries, float* out, const Ahead<W>* ahead) {
  constexpr int R = kLanes / T;
  int p = 0;
  for (; p + R <= positions; p += R) {
    if (ahead) {
      for (int r = 0; r < R; ++r) ahead->template ask<Apart>(p + r, 0, D * sizeof(W));
    }
    score_keys<Step, T, Width>(keys + p * stride, stride, R, queries, out + p);
  }
  if (p < positions) score_keys<Step, T, Width>(keys + p * stride, stride, positions - p, queries, out + p);
}

/** Queries that share the loads of a key. */
constexpr int kKeyQueries = smaller(4, kLanes);

/** Elements [i, i + V * kLanes) of N partial results, stride apart: *= rescale, += sum over positions, Apart numbers from each other, of score * value.
 *  Stepwise, each step of partial results lies in the order of load_first, load_second. Those elements of keys and values ahead are asked for, unless it is null. */
template <int D, int64_t Apart, int N, int V, bool Stepwise, class W>
DEVICE void add_values_block(float* partial, int64_t stride, const float* rescale, const float* scores, const W* values, int positions,
                             const Ahead<W>* ahead, int i) {
  Vec sums[N][V];
  for (int n = 0; n < N; ++n) {
    for (int v = 0; v < V; ++v) sums[n][v] = load(partial + n * stride + v * kLanes) * splat(rescale[n]);
  }
  for (int p = 0; p < positions; ++p) {
    if (ahead) ahead->template ask<Apart>(p, D + i, V * kLanes * sizeof(W));
    Vec part[V];
    if constexpr (Stepwise) {
      for (int v = 0; v < V; v += 2) {
        part[v] = load_first(values + p * Apart + v * kLanes);
        part[v + 1] = load_second(values + p * Apart + v * kLanes);
      }
    } else {
      for (int v = 0; v < V; ++v) part[v] = load(values + p * Apart + v * kLanes);
    }
    for (int n = 0; n < N; ++n) {
      const Vec score = splat(scores[n * kAttendPositions + p]);
      for (int v = 0; v < V; ++v) sums[n][v] = multiply_add(score, part[v], sums[n][v]);
    }
  }
  for (int n = 0; n < N; ++n) {
    for (int v = 0; v < V; ++v) store(partial + n * stride + v * kLanes, sums[n][v]);
  }
}

/** Elements of a value that are added up stepwise. */
template <int D> constexpr int kStepwise = D / kStep * kStep;

/** The same for all D elements. */
template <int D, int64_t Apart, int N, class W>
DEVICE void add_values(float* partial, int64_t stride, const float* rescale, const float* scores, const W* values, int positions,
                       const Ahead<W>* ahead) {
  constexpr int wide = N == 1 ? 8 : 4;
  int i = 0;
  for (; i + wide * kLanes <= kStepwise<D>; i += wide * kLanes) {
    add_values_block<D, Apart, N, wide, true>(partial + i, stride, rescale, scores, values + i, positions, ahead, i);
  }
  for (; i + kStep <= kStepwise<D>; i += kStep) {
    add_values_block<D, Apart, N, 2, true>(partial + i, stride, rescale, scores, values + i, positions, ahead, i);
  }
  for (; i + kLanes <= D; i += kLanes) {
    add_values_block<D, Apart, N, 1, false>(partial + i, stride, rescale, scores, values + i, positions, ahead, i);
  }
  for (; i < D; ++i) {
    for (int n = 0; n < N; ++n) {
      float total = partial[n * stride + i] * rescale[n];
      for (int p = 0; p < positions; ++p) total += scores[n * kAttendPositions + p] * to_float(values[p * Apart + i]);
      partial[n * stride + i] = total;
    }
  }
}

/** Stepwise elements of partial [D] into their own order. */
template <int D, class W> DEVICE void in_order(float* partial) {
  const W* const order = nullptr;
  for (int i = 0; i < kStepwise<D>; i += kStep) {
    const Vec first = load(partial + i), second = load(partial + i + kLanes);
    store(partial + i, a_of(order, first, second));
    store(partial + i + kLanes, b_of(order, first, second));
  }
}

/** One query's scores become exp(score - m), zero outside [unseen, seen); its m and l are updated. Returns the rescale of what was summed before. */
DEVICE float soften(float* scores, int unseen, int seen, float* m, float* l) {
  for (int p = 0; p < unseen; ++p) scores[p] = -__builtin_inff();
  for (int p = seen; p < kAttendPositions; ++p) scores[p] = -__builtin_inff();
  Vec highest = load(scores);
  for (int p = kLanes; p < kAttendPositions; p += kLanes) highest = max_of(load(scores + p), highest);
  const float row_max = max_lane(highest), next = row_max > *m ? row_max : *m;
  const float rescale = *m == next ? 1.0f : exp(splat(*m - next))[0];
  Vec total = {};
  for (int p = 0; p < kAttendPositions; p += kLanes) {
    const Vec weight = exp(load(scores + p) - splat(next));
    store(scores + p, weight);
    total += weight;
  }
  *m = next;
  *l = *l * rescale + sum(total);
  return rescale;
}

/** scores [kAttendPositions] *= scales. */
DEVICE void multiply(float* scores, const float* scales) {
  for (int p = 0; p < kAttendPositions; p += kLanes) store(scores + p, load(scores + p) * load(scales + p));
}

/** Attention of Group queries of each token over positions [begin, end); token t sees positions up to position + t,
 *  of them the last `window`, with a window of 0 all.
 *  q(t, g) = q + t * q_token_stride + g * D; cache_head: K, then V of each position, [D] numbers each. Scales multiply the scores: those of K before the softmax, those of V behind it.
 *  partial(t, g) = partial + t * partial_token_stride + (g * Splits + split) * (D + 2) := sum(exp(s - m) v) [D], m, l = sum(exp(s - m)).
 *  Positions behind these are asked for meanwhile, unless it is null. */
template <class Step, int D, int Group, int Splits, class C>
DEVICE void attend_steps(Block& b, int scratch, const float* q, int q_token_stride, const C* cache_head, float* partial,
                         int partial_token_stride, int split, int begin, int end, int position, int tokens, int window,
                         const Stretch<Number<C>>* behind) {
  constexpr int width = padded(D);
  constexpr int64_t stride = kPositionStride<D, C>;
  const int queries = tokens * Group;
  float* const input = b.scratch + scratch;
  float* const scores = input + (int64_t)queries * width;
  Number<C>* const keys = (Number<C>*)(scores + (int64_t)queries * kAttendPositions);
  const auto part = [=](int query) {
    return partial + (int64_t)(query / Group) * partial_token_stride + (query % Group * Splits + split) * (D + 2);
  };
  for (int query = 0; query < queries; ++query) {
    const float* x = q + (int64_t)(query / Group) * q_token_stride + query % Group * D;
    write_steps<Step, D>(
        input + (int64_t)query * input_floats<Step>(width), 1, 0, [=](int i) { return load(x + i) * splat(kAttnScale); },
        [=](int i) { return x[i] * kAttnScale; });
    for (int i = 0; i < D; ++i) part(query)[i] = 0;
    part(query)[D] = -__builtin_inff();
    part(query)[D + 1] = 0;
  }
  end = smaller(end, position + tokens);
  const int far = smaller(kAttendAhead / (int)(stride * sizeof(Number<C>)), end - begin);
  for (int first = begin; first < end; first += kAttendPositions) {
    const int positions = smaller(kAttendPositions, end - first);
    const C* const rows = cache_head + first * stored<C>(2 * D);
    const Number<C>* const values = numbers_of(rows + stored<C>(D));
    const int skipped = larger(0, first - position) * Group;  // earlier tokens do not see this chunk
    const Number<C>* key_rows = numbers_of(rows);
    int64_t key_stride = stride;
    if (D % 32 != 0) {  // a step would read past the key: copy, zeros behind
      memset((void*)keys, 0, positions * width * sizeof(*keys));
      for (int p = 0; p < positions; ++p) memcpy((void*)(keys + p * width), key_rows + p * stride, D * sizeof(*keys));
      key_rows = keys;
      key_stride = width;
    }
    const Ahead<Number<C>> asked = {{numbers_of(rows) + far * stride, end - first - far}, behind ? *behind : Stretch<Number<C>>{numbers_of(rows), 1}};
    const Ahead<Number<C>>* ahead = &asked;  // by the first queries alone
    for_tokens<kKeyQueries>(skipped, queries, [&](auto several, int query) __attribute__((always_inline)) {
      score_chunk<Step, several, width, D, stride>(key_rows, key_stride, positions, input + (int64_t)query * input_floats<Step>(width),
                                                   scores + (int64_t)query * kAttendPositions, query == skipped ? ahead : nullptr);
    });
    alignas(64) float key_scales[kAttendPositions], value_scales[kAttendPositions];
    if constexpr (kScaled<C>) {
      read_scales<kAttendPositions>(key_scales, rows, stored<C>(2 * D), positions);
      read_scales<kAttendPositions>(value_scales, rows + stored<C>(D), stored<C>(2 * D), positions);
    }
    const auto weigh = [&](float* row, int unseen, int seen, float* m_and_l) {
      if constexpr (kScaled<C>) multiply(row, key_scales);
      const float rescale = soften(row, unseen, seen, m_and_l, m_and_l + 1);
      if constexpr (kScaled<C>) multiply(row, value_scales);
      return rescale;
    };
    // Later tokens see none of this chunk where their window begins behind it.
    const int seeing = window == 0 ? tokens : smaller(tokens, first + positions + window - 1 - position);
    for (int query = larger(0, first - position) * Group; query < seeing * Group;) {
      // Queries of one token lie Splits * (D + 2) apart; two at a time share the loads of the values.
      const int seen = smaller(positions, position + query / Group - first + 1);
      const int unseen = window == 0 ? 0 : larger(0, position + query / Group - window + 1 - first);
      float rescale[2];
      float* const row = scores + (int64_t)query * kAttendPositions;
      float* const out = part(query);
      rescale[0] = weigh(row, unseen, seen, out + D);
      if (query % Group + 1 < Group) {
        float* const next = part(query + 1);
        rescale[1] = weigh(row + kAttendPositions, unseen, seen, next + D);
        add_values<D, stride, 2>(out, next - out, rescale, row, values, seen, ahead);
        query += 2;
      } else {
        add_values<D, stride, 1>(out, 0, rescale, row, values, seen, ahead);
        query += 1;
      }
      ahead = nullptr;
    }
  }
  for (int query = 0; query < queries; ++query) in_order<D, Number<C>>(part(query));
}

/** The same in the numbers that products of so many tokens are made in. One by one, a window's chunks begin where each token's window does. */
template <int D, int Group, int Splits, class C>
DEVICE void attend(Block& b, int scratch, const float* q, int q_token_stride, const C* cache_head, float* partial,
                   int partial_token_stride, int split, int begin, int end, int position, int tokens, int window,
                   const Stretch<Number<C>>* behind = nullptr) {
  const auto with = [&](auto step, int first, int count, int from) {
    attend_steps<decltype(step), D, Group, Splits>(b, scratch, q + (int64_t)first * q_token_stride, q_token_stride, cache_head,
                                                   partial + (int64_t)first * partial_token_stride, partial_token_stride, split, from, end,
                                                   position + first, count, window, behind);
  };
  if (!one_by_one(b, tokens)) return with(Shared<Number<C>>{}, 0, tokens, begin);
  if (window == 0 || tokens == 1) return with(Exact<Number<C>>{}, 0, tokens, begin);
  for (int t = 0; t < tokens; ++t) with(Exact<Number<C>>{}, t, 1, larger(begin, position + t + 1 - window));
}

/** dst [D] := softmax-weighted values of one head, from its splits [Splits][D + 2]; zeros where no position was seen. */
template <int D, int Splits> DEVICE void merge(Block&, float* dst, const float* partial) {
  float row_max = partial[D];
  for (int s = 1; s < Splits; ++s) row_max = partial[s * (D + 2) + D] > row_max ? partial[s * (D + 2) + D] : row_max;
  float scale[Splits], row_sum = 0;
  for (int s = 0; s < Splits; ++s) {
    const float m = partial[s * (D + 2) + D];
    scale[s] = Splits == 1 ? 1.0f : m == -__builtin_inff() ? 0.0f : exp(splat(m - row_max))[0];
    row_sum += scale[s] * partial[s * (D + 2) + D + 1];
  }
  const float inverse = row_sum > 0 ? 1.0f / row_sum : 0.0f;
  for (int s = 0; s < Splits; ++s) scale[s] *= inverse;
  constexpr int whole = D / kLanes * kLanes;
  for (int i = 0; i < whole; i += kLanes) {
    Vec value = load(partial + i) * splat(scale[0]);
    for (int s = 1; s < Splits; ++s) value = multiply_add(load(partial + s * (D + 2) + i), splat(scale[s]), value);
    store(dst + i, value);
  }
  for (int i = whole; i < D; ++i) {
    float value = partial[i] * scale[0];
    for (int s = 1; s < Splits; ++s) value += partial[s * (D + 2) + i] * scale[s];
    dst[i] = value;
  }
}

/** Input := the merged attention output [tokens][K]; partial [tokens][K / D][Splits][D + 2]. */
template <int K, int D, int Splits> DEVICE void merge_input(Block& b, const float* partial, int tokens) {
  for (int token = 0; token < tokens; ++token) {
    float merged[K];
    for (int head = 0; head < K / D; ++head) {
      merge<D, Splits>(b, merged + head * D, partial + (int64_t)(token * (K / D) + head) * Splits * (D + 2));
    }
    write_input<Matrix, K>(
        b, tokens, token, [&](int i) { return load(merged + i); },
        [&](int i) { return merged[i]; });
  }
}
