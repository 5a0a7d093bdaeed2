// Products with rows in blocks, and their embedding, against plain loops in double over what the blocks say. Compiled once for each instruction set.
#include <algorithm>
#include <cstring>
#include <vector>

#include "abi.h"
#include "cpu-check.h"
#include "lib/types.h"

using Matrix = int8_block;
using Cache = bf16;
constexpr int kPassTokens = 64, kVocab = 1000, kHeadDim = 20, kGroup = 2, kScratchFloats = 0;
constexpr float kAttnScale = 0.25f;
constexpr int kInputBits = INPUT_BITS;
#include "lib/lib.h"
#include "cpu-bench.h"

using Floats = std::vector<float>;

/** The largest q of an input. */
constexpr float kMostInput = kInputBits == 8 ? kLargestByte : kLargestInput;

template <class W> void put_least(W&, float) {}
void put_least(int4_asym_block& block, float least) { round_to(&block.least, least); }

/** Scales of both signs, some of them subnormal in fp16; every q that there is. */
template <class W> std::vector<W> random_blocks(int64_t count) {
  std::vector<W> blocks(count);
  for (int64_t i = 0; i < count; ++i) {
    round_to(&blocks[i].scale, i % 7 == 3 ? 0x1.8p-16f : random_float());
    put_least(blocks[i], 8 * random_float());
    for (auto& q : blocks[i].q) {
      const auto byte = static_cast<uint8_t>(static_cast<int>(random_float() * 128));
      std::memcpy(&q, &byte, 1);
    }
  }
  return blocks;
}

/** q of element i, from the layout alone. */
int number(const int8_block& block, int i) { return block.q[i]; }
int number(const int4_block& block, int i) { return (i < 16 ? block.q[i] % 16 : block.q[i - 16] / 16) - 8; }
int number(const int4_asym_block& block, int i) { return i < 16 ? block.q[i] % 16 : block.q[i - 16] / 16; }
double number(const fp8_block& block, int i) {
  const int bits = block.q[i].bits, exponent = bits / 8 % 16, fraction = bits % 8;
  const double size = exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
  return (bits < 128 ? size : -size) / 256;
}

template <class W> double least(const W&) { return 0; }
double least(const int4_asym_block& block) { return to_float(block.least); }

/** What element i stands for. */
template <class W> double value(const W& block, int i) { return static_cast<double>(to_float(block.scale)) * number(block, i) + least(block); }

template <class W> double exact(const std::vector<W>& w, int64_t element) { return value(w[element / 32], element % 32); }

/** y[token][row] = dot(row, input) for one shape, with so many tokens together. */
template <class W, int K, int Parts> void check_matmul(const char* name) {
  Bench bench;
  Block& b = bench.block;
  Check check(name);
  const int rows = 53;
  const auto w = random_blocks<W>(static_cast<int64_t>(rows) * Parts * padded(K) / 32);
  for (int tokens : {1, 2, 6, 7, 64}) {
    Floats src(static_cast<size_t>(tokens) * K);
    for (float& x : src) x = random_float();
    gather_input<K, W>(b, src.data(), tokens);
    // Of whole numbers, an input is rounded by half a step of its 32 at most.
    Floats half_step(static_cast<size_t>(tokens) * padded(K) / 32, 0);
    for (size_t i = 0; kWhole<W> && i < src.size(); ++i) {
      float& step = half_step[i / K * padded(K) / 32 + i % K / 32];
      step = std::max(step, std::fabs(src[i]) / kMostInput / 2);
    }
    int calls = 0;
    matmul<K, Parts>(b, w.data(), {5, rows}, tokens, [&](int row, int token, const float(&y)[Parts]) {
      ++calls;
      for (int p = 0; p < Parts; ++p) {
        double want = 0, size = 0, rounded = 0;
        for (int k = 0; k < K; ++k) {
          const double weight = exact(w, (static_cast<int64_t>(row) * Parts + p) * padded(K) + k);
          const double term = weight * src[static_cast<size_t>(token) * K + k];
          want += term;
          size += std::fabs(term);
          rounded += std::fabs(weight) * half_step[(static_cast<size_t>(token) * padded(K) + k) / 32];
        }
        check.near(y[p], want, sum_error(kWhole<W> ? padded(K) / 32 + 4 : padded(K)) * (size + rounded) + rounded);
      }
    });
    check.equal(calls, (rows - 5) * tokens);
  }
}

/** A token has the bits that it has alone where drafts are checked, and of whole numbers among any others, whichever way rows are read. */
template <class W, int K> void check_alone(const char* name) {
  Bench bench;
  Block& b = bench.block;
  Check check(name);
  const int rows = 41;
  const auto w = random_blocks<W>(static_cast<int64_t>(rows) * padded(K) / 32);
  Floats src(kPassTokens * K), alone(kPassTokens * rows);
  for (float& x : src) x = random_float();
  for (int token = 0; token < kPassTokens; ++token) {
    gather_input<K, W>(b, src.data() + token * K, 1);
    matmul<K, 1>(b, w.data(), {0, rows}, 1, [&](int row, int, const float(&y)[1]) { alone[token * rows + row] = y[0]; });
  }
  const auto compare = [&](int tokens, Range part) {
    gather_input<K, W>(b, src.data(), tokens);
    matmul<K, 1>(b, w.data(), part, tokens,
                 [&](int row, int token, const float(&y)[1]) { check.equal(y[0], alone[token * rows + row]); });
  };
  if (kWhole<W>) {
    for (int tokens : {2, 3, 7, 8, kFewTokens, kFewTokens + 1, kPassTokens}) compare(tokens, {0, rows});
    for (int first : {1, 7, 40}) compare(kPassTokens, {first, rows});
  }
  b.team->draft_count = 1;
  compare(7, {0, rows});
}

/** What is no finite number is noticed; zeros are zeros, and the smallest numbers no more than that. */
template <class W> void check_special(const char* name) {
  Bench bench;
  Block& b = bench.block;
  Check check(name);
  const auto w = random_blocks<W>(2);
  const auto product = [&](float first, float others) {
    float src[64], y = 0;
    for (float& x : src) x = others;
    src[35] = first;
    gather_input<64, W>(b, src, 1);
    matmul<64, 1>(b, w.data(), {0, 1}, 1, [&](int, int, const float(&sum)[1]) { y = sum[0]; });
    return y;
  };
  for (float bad : {NAN, INFINITY, -INFINITY}) check.that(!std::isfinite(product(bad, 1)));
  check.equal(product(0, 0), 0);
  check.that(std::fabs(product(1e-42f, 0)) < 1e-30f);
}

void set_number(int8_block& block, int i, int q) { block.q[i] = static_cast<int8_t>(q); }
template <class W> void set_nibble(W& block, int i, int q) {
  const int shift = i / 16 * 4;
  block.q[i % 16] = static_cast<uint8_t>((block.q[i % 16] & ~(15 << shift)) | (q + 8) << shift);
}
void set_number(int4_block& block, int i, int q) { set_nibble(block, i, q); }
void set_number(int4_asym_block& block, int i, int q) { set_nibble(block, i, q); }

/** Each input alone is off by half a step at most. */
template <class W> void check_nearest(const char* name) {
  Bench bench;
  Block& b = bench.block;
  Check check(name);
  W w[32];
  for (int row = 0; row < 32; ++row) {
    round_to(&w[row].scale, 1);
    put_least(w[row], -8);
    for (int i = 0; i < 32; ++i) set_number(w[row], i, i == row);
  }
  float src[32], most = 0;
  for (float& x : src) most = std::max(most, std::fabs(x = random_float()));
  gather_input<32, W>(b, src, 1);
  const double step = most / kMostInput;
  matmul<32, 1>(b, w, {0, 32}, 1, [&](int row, int, const float(&y)[1]) { check.near(y[0], src[row], step / 2 + sum_error(4) * most); });
}

/** Sums of the largest numbers are exact: the largest q of an input makes its scale one. */
template <class W> void check_extremes(const char* name) {
  Bench bench;
  Block& b = bench.block;
  Check check(name);
  constexpr int tokens = 9, rows = 19;
  std::vector<W> w(rows);
  for (int row = 0; row < rows; ++row) {
    round_to(&w[row].scale, 1);
    put_least(w[row], -8);
    for (auto& q : w[row].q) {
      const uint8_t ends[] = {0x80, 0x7f, 0x0f, 0xf0, 0xff, 0x00};
      const uint8_t byte = ends[row < 6 ? row : static_cast<int>((random_float() + 1) * 3) % 6];
      std::memcpy(&q, &byte, 1);
    }
  }
  Floats src(tokens * 32);
  for (int i = 0; i < tokens * 32; ++i) src[i] = i < 32 ? kMostInput : i < 64 ? -kMostInput : random_float() < 0 ? -kMostInput : kMostInput;
  gather_input<32, W>(b, src.data(), tokens);
  matmul<32, 1>(b, w.data(), {0, rows}, tokens, [&](int row, int token, const float(&y)[1]) {
    double want = 0;
    for (int k = 0; k < 32; ++k) want += value(w[row], k) * static_cast<double>(src[token * 32 + k]);
    check.equal(y[0], static_cast<float>(want));
  });
}

template <class W, int K> void check_embed(const char* name) {
  Bench bench;
  Check check(name);
  const auto table = random_blocks<W>(7 * padded(K) / 32);
  const int ids[] = {6, 0, 3};
  Floats x(3 * K, NAN);
  embed<K>(bench.block, x.data(), table.data(), ids, 3, {0, 40});
  embed<K>(bench.block, x.data(), table.data(), ids, 3, {40, K});
  for (int token = 0; token < 3; ++token) {
    for (int i = 0; i < K; ++i) check.equal(x[token * K + i], static_cast<float>(exact(table, ids[token] * padded(K) + i)));
  }
}

template <class W> void check_all(const char* name) {
  check_matmul<W, 32, 1>(name);
  check_matmul<W, 100, 2>(name);
  check_matmul<W, 2080, 1>(name);
  check_alone<W, 608>(name);
  check_special<W>(name);
  if constexpr (kWhole<W>) check_nearest<W>(name);
  if constexpr (kWhole<W>) check_extremes<W>(name);
  check_embed<W, 70>(name);
}

/** Inputs in 8 bits are of whole numbers alone. */
template <class W> void check_format(const char* name) {
  if constexpr (kInputBits == 16 || kWhole<W>) check_all<W>(name);
}

int main() {
  check_format<int8_block>("int8");
  check_format<int4_block>("int4");
  check_format<int4_asym_block>("int4-asym");
  check_format<fp8_block>("fp8");
}
