// Every function of templates/cpu/lib against plain loops in double, on sizes that fit no vector.
// Compiled once for each instruction set and -DWEIGHT=bf16, fp16 or float.
#include <limits>
#include <thread>
#include <utility>
#include <vector>

#include "abi.h"
#include "cpu-check.h"
#include "lib/types.h"

using Matrix = WEIGHT;
using Cache = WEIGHT;
constexpr int kPassTokens = 64, kVocab = 1000, kHeadDim = 20, kGroup = 2, kScratchFloats = 0;
constexpr float kAttnScale = 0.25f;
constexpr int kInputBits = 16;
#include "lib/lib.h"
#include "cpu-bench.h"

using Floats = std::vector<float>;

static Floats random_floats(int64_t n) {
  Floats values(n);
  for (float& value : values) value = random_float();
  return values;
}

/** A packed matrix; beyond every row's end, zeros up to the stride. */
template <int K> std::vector<Matrix> random_rows(int rows) {
  std::vector<Matrix> values(static_cast<size_t>(rows) * padded(K));
  for (Matrix& value : values) round_to(&value, 0);
  for (int row = 0; row < rows; ++row) {
    for (int k = 0; k < K; ++k) round_to(&values[static_cast<size_t>(row) * padded(K) + k], random_float());
  }
  return values;
}

/** Whether a product of so many tokens rounds its inputs to the weights' format. */
static bool rounds(int tokens) { return tokens > 1 && Shared<Matrix>::parts == 1; }

/** An input as a product of so many tokens takes it. */
static double taken(float x, int tokens) {
  if (!rounds(tokens)) return x;
  Matrix nearest;
  round_to(&nearest, x);
  return to_float(nearest);
}

/** Error of an input that is not known to the last bit: it may be rounded to either neighbour. */
static double input_error(int tokens, double error) { return error + (rounds(tokens) ? 0x1p-8 : 0); }

/** Both sides of `y[token][row][part] = dot(row, input)` for one shape; input [tokens][K] in double. */
template <int K, int Parts>
void compare_matmul(Check& check, Block& b, const std::vector<Matrix>& w, Range rows, int tokens, const std::vector<double>& input,
                    double error = 0) {
  int calls = 0;
  matmul<K, Parts>(b, w.data(), rows, tokens, [&](int row, int token, const float(&y)[Parts]) {
    ++calls;
    for (int p = 0; p < Parts; ++p) {
      double want = 0, size = 0;
      for (int k = 0; k < K; ++k) {
        const double term = to_float(w[(static_cast<size_t>(row) * Parts + p) * padded(K) + k]) * input[static_cast<size_t>(token) * K + k];
        want += term;
        size += std::fabs(term);
      }
      check.near(y[p], want, (sum_error(K / kLanes + kLanes) + error) * size);
    }
  });
  check.equal(calls, (rows.end - rows.begin) * tokens);
}

template <int K, int Parts> void check_matmul() {
  Bench bench;
  Block& b = bench.block;
  Check check("matmul");
  const int rows = 101;
  const auto w = random_rows<K>(rows * Parts);
  for (int tokens : {0, 1, 2, 3, 4, 5, 6, 7, 11, 13, 64}) {
    const Floats src = random_floats(static_cast<int64_t>(tokens) * K);
    std::vector<double> input;
    for (const float x : src) input.push_back(taken(x, tokens));
    gather_input<K>(b, src.data(), tokens);
    for (Range range : {Range{0, rows}, Range{3, 3}, Range{3, 4}, Range{3, 8}, Range{7, 60}}) {
      compare_matmul<K, Parts>(check, b, w, range, tokens, input);
    }
  }
}

/** A row's result is the same bits wherever it lies in a block's rows, and a token's whatever follows it in the pass. */
template <int K> void check_order() {
  Bench bench;
  Block& b = bench.block;
  Check check("same bits in any block");
  const int rows = 101;
  const auto w = random_rows<K>(rows);
  const Floats src = random_floats(64 * K);
  for (int tokens : {1, 2, 5, 9, 64}) {
    Floats whole(rows * tokens), pieces(rows * tokens), alone(rows * tokens);
    gather_input<K>(b, src.data(), tokens);
    matmul<K, 1>(b, w.data(), {0, rows}, tokens, [&](int row, int token, const float(&y)[1]) { whole[row * tokens + token] = y[0]; });
    for (Range range : {Range{0, 1}, Range{1, 50}, Range{50, 52}, Range{52, rows}}) {
      matmul<K, 1>(b, w.data(), range, tokens, [&](int row, int token, const float(&y)[1]) { pieces[row * tokens + token] = y[0]; });
    }
    for (int i = 0; i < rows * tokens; ++i) check.equal(pieces[i], whole[i]);
    if (tokens == 1) continue;
    gather_input<K>(b, src.data(), 64);
    matmul<K, 1>(b, w.data(), {0, rows}, 64, [&](int row, int token, const float(&y)[1]) {
      if (token < tokens) alone[row * tokens + token] = y[0];
    });
    for (int i = 0; i < rows * tokens; ++i) check.equal(alone[i], whole[i]);
  }
}

template <int K> std::vector<double> exact_norm(const float* x, const float* weight, double eps) {
  double squares = 0;
  for (int k = 0; k < K; ++k) squares += double(x[k]) * x[k];
  std::vector<double> out(K);
  for (int k = 0; k < K; ++k) out[k] = x[k] / std::sqrt(squares / K + eps) * weight[k];
  return out;
}

template <int K> void check_norm() {
  Bench bench;
  Block& b = bench.block;
  Check check("norm");
  const Floats weight = random_floats(K);
  for (int tokens : {1, 2, 5, 64}) {
    const Floats src = random_floats(static_cast<int64_t>(tokens) * K);
    std::vector<double> input;
    for (int token = 0; token < tokens; ++token) {
      const auto want = exact_norm<K>(&src[token * K], weight.data(), 1e-3);
      input.insert(input.end(), want.begin(), want.end());
      Floats got(K), in_place(&src[token * K], &src[token * K] + K);
      norm<K>(b, got.data(), &src[token * K], weight.data(), 1e-3f);
      head_norm<K>(in_place.data(), in_place.data(), weight.data(), 1e-3f);
      for (int k = 0; k < K; ++k) {
        check.near(got[k], want[k], sum_error(K) * std::fabs(want[k]));
        check.equal(in_place[k], got[k]);
      }
    }
    norm_input<K>(b, src.data(), weight.data(), 1e-3f, tokens);
    compare_matmul<K, 1>(check, b, random_rows<K>(7), {0, 7}, tokens, input, input_error(tokens, sum_error(K)));
  }
}

/** Number i of a key or a value in the cache, from the layout alone. */
template <class C> double cached(const C* row, int i) { return to_float(row[i]); }
template <class Q, int D> double cached(const scaled_row<Q, D>* row, int i) { return double(row->scale) * to_float(row->q[i]); }

/** A row of int8: each number within half a step of what was stored, the largest at the end of the range; what is not finite is NaN. */
template <int D> void check_scaled() {
  Check check("int8 rows");
  scaled_row<int8_t, D> row;
  Floats x(D);
  const auto keep = [&](auto at) {
    for (int i = 0; i < D; ++i) x[i] = at(i);
    store_row<D>(&row, x.data());
  };
  for (const float size : {1.0f, 0x1p-100f, 0x1p120f}) {
    keep([&](int) { return size * random_float(); });
    float most = 0;
    for (const float value : x) most = std::fmax(most, std::fabs(value));
    check.near(row.scale, most / 127.0, most * 0x1p-31);
    for (int i = 0; i < D; ++i) {
      check.near(cached(&row, i), x[i], row.scale * (0.5 + 127 * 0x1p-23));
      if (std::fabs(x[i]) == most) check.equal(std::abs(row.q[i]), 127);
    }
  }
  const float halves[] = {127, 0.5f, 1.5f, -0.5f, -2.5f, -127};
  const int even[] = {127, 0, 2, 0, -2, -127};
  keep([&](int i) { return halves[i % 6]; });
  for (int i = 0; i < D; ++i) check.equal(row.q[i], even[i % 6]);
  for (const float little : {0.0f, -0.0f, 0x1p-149f, 0x1p-143f, 0x1.5p-142f}) {  // scales round to 0, or by much
    keep([&](int i) { return i == 1 ? little : 0; });
    check.that(row.scale >= 0);
    for (int i = 0; i < D; ++i) check.near(cached(&row, i), x[i], 0x1p-143 + std::fabs(x[i]) / 2);
  }
  for (const float strange : {NAN, INFINITY, -INFINITY}) {
    keep([&](int i) { return i == D - 1 ? strange : 1; });
    for (int i = 0; i < D; ++i) check.that(std::isnan(cached(&row, i)));
  }
  for (int first = -128; first < 128; first += kStep) {
    int8_t bytes[kStep];
    float loaded[kStep];
    for (int i = 0; i < kStep; ++i) bytes[i] = static_cast<int8_t>(first + i);
    store(loaded, load_first(bytes));
    store(loaded + kLanes, load_second(bytes));
    for (int i = 0; i < kStep; ++i) check.equal(loaded[i], first + i);
  }
}

template <int D> void check_heads() {
  Check rotated("rope"), stored("append");
  const Floats src = random_floats(D), row = random_floats(D), v = random_floats(D);
  Floats got(D), in_place = src;
  rope<D>(got.data(), src.data(), row.data());
  rope<D>(in_place.data(), in_place.data(), row.data());
  for (int i = 0; i < D / 2; ++i) {
    const double cosine = row[2 * i], sine = row[2 * i + 1], low = src[i], high = src[i + D / 2];
    rotated.near(got[i], low * cosine - high * sine, sum_error(2) * 2);
    rotated.near(got[i + D / 2], high * cosine + low * sine, sum_error(2) * 2);
  }
  for (int i = 0; i < D; ++i) rotated.equal(in_place[i], got[i]);
  Cache cache[2 * D];
  append<D>(cache, src.data(), v.data());
  for (int i = 0; i < D; ++i) {
    Cache k, value;
    round_to(&k, src[i]);
    round_to(&value, v[i]);
    stored.equal(to_float(cache[i]), to_float(k));
    stored.equal(to_float(cache[D + i]), to_float(value));
  }
}

/** Attention of all heads at once, in parts, then merged, with a window or without (0); Group queries for each of two kv heads. */
template <class C, int D, int Group, int Splits> void check_attention(int window = 0) {
  Bench bench;
  Block& b = bench.block;
  Check check("attention");
  constexpr int kv_heads = 2, heads = kv_heads * Group, context = 180;
  const int partial_stride = heads * Splits * (D + 2);
  for (int position : {0, 7, 32, 110}) {
    for (int tokens : {1, 2, 5, 64}) {
      const Floats q = random_floats(static_cast<int64_t>(tokens) * heads * D);
      constexpr int64_t value = stored<C>(D), pair = 2 * value;  // from a position's key to its value, and to the next position
      std::vector<C> cache(static_cast<size_t>(kv_heads) * context * pair);
      const auto fill = [&](int head, int from, int to, auto number) {
        for (int row = 2 * from; row < 2 * to; ++row) {
          Floats numbers(D);
          for (float& x : numbers) x = number();
          store_row<D>(&cache[static_cast<size_t>(head) * context * pair + row * value], numbers.data());
        }
      };
      // What has no token yet, or is in no token's window, may be anything but must not be used.
      const int unseen = window == 0 || position < window ? 0 : position - window + 1;
      for (int head = 0; head < kv_heads; ++head) {
        fill(head, 0, unseen, [] { return NAN; });
        fill(head, unseen, position + tokens, [] { return 3 * random_float(); });
        fill(head, position + tokens, context, [] { return NAN; });
      }
      Floats partial(static_cast<size_t>(tokens) * partial_stride, NAN);
      const int scratch = 96, all = position + tokens, half = unseen + (all - unseen) / 2;
      for (int head = 0; head < kv_heads; ++head) {
        for (int split = 0; split < Splits; ++split) {
          // The second part is empty on purpose; attend must say so.
          const int begin = split == 0 ? unseen : half, end = split == Splits - 1 ? all : half;
          attend<D, Group, Splits>(b, scratch, &q[head * Group * D], heads * D, &cache[static_cast<size_t>(head) * context * pair],
                                   &partial[head * Group * Splits * (D + 2)], partial_stride, split, begin, end, position, tokens, window);
        }
      }
      std::vector<double> merged;
      for (int token = 0; token < tokens; ++token) {
        for (int head = 0; head < heads; ++head) {
          const C* rows = &cache[static_cast<size_t>(head / Group) * context * pair];
          std::vector<double> scores;
          double largest = -1e30, size = 0, total = 0;
          const int first = window == 0 || position + token < window ? 0 : position + token - window + 1;
          for (int p = first; p <= position + token; ++p) {
            double score = 0, magnitude = 0;
            for (int i = 0; i < D; ++i) {
              const double term = (kScaled<C> ? q[(token * heads + head) * D + i] : taken(q[(token * heads + head) * D + i], tokens)) * cached(rows + p * pair, i);
              score += term;
              magnitude += std::fabs(term);
            }
            scores.push_back(score * kAttnScale);
            if (scores.back() > largest) largest = scores.back();
            if (magnitude * kAttnScale > size) size = magnitude * kAttnScale;
          }
          for (double& score : scores) total += score = std::exp(score - largest);
          Floats got(D);
          merge<D, Splits>(b, got.data(), &partial[static_cast<size_t>(token) * partial_stride + head * Splits * (D + 2)]);
          for (int i = 0; i < D; ++i) {
            double want = 0, weight = 0;
            for (size_t p = 0; p < scores.size(); ++p) {
              const double number = cached(rows + (first + p) * pair + value, i);
              want += scores[p] / total * number;
              weight += scores[p] / total * std::fabs(number);
            }
            // A score's error changes its weight, and the sum of weights, by as much.
            const double allowed = (2 * (sum_error(D) * size + 4 * 0x1p-23) + 2 * sum_error(static_cast<int>(scores.size()) + 2 * Splits)) * weight;
            check.near(got[i], want, allowed);
            merged.push_back(taken(got[i], tokens));
          }
        }
      }
      merge_input<heads * D, D, Splits>(b, partial.data(), tokens);
      compare_matmul<heads * D, 1>(check, b, random_rows<heads * D>(3), {0, 3}, tokens, merged);
      check.that(scratch + attend_scratch<D, Group, 64>() <= (1 << 20));
      for (int i = scratch + attend_scratch<D, Group, 64>(); i < (1 << 20) - 64 && tokens == 64 && heads * D * 64 < i; ++i) {
        check.that(b.scratch[i] != b.scratch[i]);  // nothing was written past the promised scratch
      }
    }
  }
}

template <int K> void check_embed() {
  Check check("embed");
  Bench bench;
  const auto table = random_rows<K>(11);
  const int ids[] = {3, 10, 0};
  Floats got(3 * K, 7.0f);
  embed<K>(bench.block, got.data(), table.data(), ids, 3, {0, K / 2});
  for (int token = 0; token < 3; ++token) {
    for (int k = 0; k < K; ++k) check.equal(got[token * K + k], k < K / 2 ? to_float(table[ids[token] * padded(K) + k]) : 7.0f);
  }
}

/** All 65,536 patterns survive; halfway values round to the even neighbour. */
template <class W> void check_rounding(const char* name) {
  Check check(name);
  if constexpr (sizeof(W) == 2) {
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
      const W value{static_cast<uint16_t>(bits)};
      const float x = to_float(value);
      W back;
      round_to(&back, x);
      if (x != x) {
        check.that(to_float(back) != to_float(back));
        continue;
      }
      check.equal(back.bits, bits);
      const W above{static_cast<uint16_t>(bits + 1)};
      const float y = to_float(above);
      if ((bits & 0x7fff) == 0x7fff || std::isinf(x) || std::isinf(y) || y != y) continue;
      const float middle = static_cast<float>((double(x) + y) / 2);
      round_to(&back, middle);
      check.equal(back.bits, bits & 1 ? bits + 1 : bits);
      round_to(&back, std::nextafter(middle, y));
      check.equal(back.bits, bits + 1);
      round_to(&back, std::nextafter(middle, x));
      check.equal(back.bits, bits);
    }
    W back;
    round_to(&back, 3.4e38f);
    check.that(std::isinf(to_float(back)));
    round_to(&back, 65520.0f);
    check.that(std::isinf(to_float(back)) == (name[0] == 'f'));
  }
}

template <class W> W from_bits(uint16_t bits) {
  W value;
  memcpy(&value, &bits, sizeof bits);
  return value;
}

/** Vector conversions agree with the scalar ones on every pattern. */
void check_loads() {
  if constexpr (sizeof(Matrix) == 2) {
    Check check("loads");
    for (uint32_t first = 0; first < 0x10000; first += kStep) {
      Matrix values[kStep];
      for (int i = 0; i < kStep; ++i) values[i] = from_bits<Matrix>(static_cast<uint16_t>(first + i));
      float plain[kStep], natural[kStep], ordered[kStep], wanted[kStep];
      for (int i = 0; i < kStep; ++i) plain[i] = to_float(values[i]);
      store(natural, load(values));
      store(natural + kLanes, load(values + kLanes));
      store(ordered, load_first(values));
      store(ordered + kLanes, load_second(values));
      store(wanted, first_of(values, load(plain), load(plain + kLanes)));
      store(wanted + kLanes, second_of(values, load(plain), load(plain + kLanes)));
      for (int i = 0; i < kStep; ++i) {
        if (plain[i] != plain[i]) {
          check.that(natural[i] != natural[i]);
          continue;
        }
        check.equal(natural[i], plain[i]);
        check.equal(ordered[i], wanted[i]);
      }
    }
  }
}

#if defined(__AVX512BF16__)
/** Two products of bf16 and a sum: what is no number stays none, denormals are zeros, inputs are rounded as round_to rounds them. */
void check_pairs() {
  Check check("pairs");
  const auto product = [](float weight, float input) {
    bf16 pair[32] = {};
    round_to(&pair[0], weight);
    const Vec first = {input};
    return multiply_add(load_pairs(pair), pairs_of(first, Vec{}), Vec{})[0];
  };
  check.equal(product(1.5f, 3), 4.5);
  check.equal(product(-1.5f, 0x1p100f), -1.5 * 0x1p100);
  check.equal(product(INFINITY, 2), INFINITY);
  check.equal(product(2, INFINITY), INFINITY);
  check.equal(product(2, 3.4e38f), INFINITY);  // which no bf16 comes near
  check.that(std::isnan(product(NAN, 1)) && std::isnan(product(1, NAN)) && std::isnan(product(INFINITY, 0)));
  check.equal(product(0x1p-130f, 1), 0);
  check.equal(product(1, 0x1p-130f), 0);
  check.equal(product(0x1p-70f, 0x1p-60f), 0);
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    for (const uint32_t low : {0x0000u, 0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      const float x = float_from_bits(bits << 16 | low);
      bf16 nearest;
      round_to(&nearest, x);
      const float got = product(1, x), want = to_float(nearest);
      if (x != x) check.that(got != got);
      else check.equal(got, std::fabs(x) < 0x1p-126f ? 0 : want);
    }
  }
}
#endif

void check_exp() {
  Check check("exp");
  for (int i = 0; i < 200000; ++i) {
    const float x = -86.0f * std::fabs(random_float()) * (i % 2 ? 1.0f : 0.01f);
    check.near(exp(splat(x))[0], std::exp(double(x)), 3 * 0x1p-23 * std::exp(double(x)));
  }
  check.equal(exp(splat(0))[0], 1);
  check.equal(exp(splat(-INFINITY))[0], 0);
  check.equal(exp(splat(-200.0f))[0], 0);
}

/** That of pointwise ops, over all of its range; the smallest float is one step of what is below 2^-126. */
void check_pointwise_exp() {
  Check check("exp of pointwise ops");
  for (int i = 0; i < 200000; ++i) {
    const float x = 105.0f * random_float() * (i % 2 ? 1.0f : 0.01f);
    const double want = std::exp(double(x));
    if (want < double(std::numeric_limits<float>::max())) check.near(ops::expf(x), want, 2 * 0x1p-23 * want + 0x1p-149);
    else check.equal(ops::expf(x), INFINITY);
  }
  check.equal(ops::expf(0), 1);
  check.equal(ops::expf(-INFINITY), 0);
  check.equal(ops::expf(INFINITY), INFINITY);
  for (float none : {NAN, -NAN, float_from_bits(0x7f800001), float_from_bits(0xffffffff)}) check.that(std::isnan(ops::expf(none)));
}

/** Four times as many threads as this machine's two cores: every thread sees what the others wrote before the barrier. */
void check_team() {
  Check check("team");
  constexpr int count = 8, turns = 500;
  Team team{};
  team.count = count;
  int written[count] = {};
  bool seen[count];
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) {
    threads.emplace_back([&, i] {
      Block b{&team, i, nullptr};
      seen[i] = true;
      for (int turn = 1; turn <= turns; ++turn) {
        written[i] = turn;
        grid_barrier(b);
        for (int other : written) seen[i] = seen[i] && other == turn;
        grid_barrier(b);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (bool all : seen) check.that(all);
  for (int n : {0, 1, 7, 8, 1001}) {
    int next = 0;
    for (int i = 0; i < count; ++i) {
      Block b{&team, i, nullptr};
      const Range range = block_range(b, n);
      check.that(range.begin == next && range.end >= range.begin && range.end - range.begin <= (n + count - 1) / count);
      next = range.end;
    }
    check.equal(next, n);
  }
}

int main() {
  check_rounding<bf16>("bf16 rounding");
  check_rounding<fp16>("fp16 rounding");
  check_loads();
#if defined(__AVX512BF16__)
  check_pairs();
#endif
  check_exp();
  check_pointwise_exp();
  check_team();
  check_matmul<1, 1>();
  check_matmul<31, 2>();
  check_matmul<33, 3>();
  check_matmul<100, 1>();
  check_matmul<1000, 2>();
  check_matmul<2080, 1>();
  check_order<100>();
  check_order<2080>();
  check_norm<1>();
  check_norm<33>();
  check_norm<100>();
  check_norm<1000>();
  check_heads<2>();
  check_heads<6>();
  check_heads<20>();
  check_heads<80>();
  check_heads<128>();
  check_attention<Cache, 2, 1, 1>();
  check_attention<Cache, 6, 2, 3>();
  check_attention<Cache, 20, 7, 1>();
  check_attention<Cache, 64, 2, 1>();
  check_attention<Cache, 80, 1, 3>();
  check_attention<Cache, 128, 7, 2>();
  check_attention<Cache, 6, 2, 3>(9);
  check_attention<Cache, 80, 1, 3>(40);
  check_scaled<20>();
  check_attention<scaled_row<int8_t, 20>, 20, 7, 1>();
  check_attention<scaled_row<int8_t, 80>, 80, 1, 3>(40);
  check_attention<scaled_row<int8_t, 96>, 96, 3, 2>(9);
  check_embed<33>();
}
