// The input of a matmul, in the order its inner loop reads it.
//
// One token is padded(K) floats, zeros from K on, step by step as Exact stores them; where tokens are computed one by one, they lie behind each other.
// Several tokens are stored as Shared does, and interleaved in groups of kTokenGroup, vector by vector; the last group has those left over:
//   step 0: its vector (or first vector) of tokens 0 1 2 3 ..., its second of tokens 0 1 2 3 ...; step 1: ...
// For rows in blocks of whole numbers it is BlockInput [padded(K) / 32][tokens], however many tokens.
#pragma once
#include "lib/norm.h"
#include "lib/step.h"

/** Tokens whose sums share the loads of the weights. */
constexpr int kTokenGroup = kLanes == 16 ? 6 : 4;

/** Where vectors of one token lie: vector v at start + v * stride. */
struct InputLane {
  float* start;
  int stride;
};

/** @param floats of one token: input_floats */
DEVICE InputLane input_lane(float* input, int floats, int tokens, int token) {
  const int member = token % kTokenGroup, first = token - member, group = smaller(kTokenGroup, tokens - first);
  return {input + (int64_t)first * floats + member * kLanes, group * kLanes};
}

/** Writes one token's vector of K floats; at(i) gives elements [i, i + kLanes), one(i) one element. */
template <class Step, int K, class At, class One>
DEVICE void write_steps(float* input, int tokens, int token, At&& at, One&& one) {
  constexpr int whole = K / kStep * kStep;
  const InputLane lane = input_lane(input, input_floats<Step>(padded(K)), tokens, token);
  float* to = lane.start;
  const auto write = [&](Vec a, Vec b) {
    for (int part = 0; part < Step::parts; ++part, to += lane.stride) store(to, Step::stored(a, b, part));
  };
  for (int i = 0; i < whole; i += kStep) write(at(i), at(i + kLanes));
  for (int i = whole; i < padded(K); i += kStep) {
    float rest[kStep] = {};
    for (int j = 0; j < kStep && i + j < K; ++j) rest[j] = one(i + j);
    write(load(rest), load(rest + kLanes));
  }
}

/** What the pairs of 4 bits are more than the numbers that are multiplied; the offset of an input takes it away again. */
constexpr int kOffset = 8;

/** Whether something is added to the numbers of W, a block each: in a product with 32 inputs times their sum. */
template <class W> constexpr bool kAdds = false;
template <> inline constexpr bool kAdds<int4_asym_block> = true;

/** Scales of kLanes rows' blocks, and what is added to their numbers as they are multiplied. */
struct Scales {
  Vec scale, added;
};
template <class W> DEVICE Scales load_scales(const W* rows, int64_t stride) { return {load_column(&rows->scale, stride), Vec{}}; }
DEVICE Scales load_scales(const int4_asym_block* rows, int64_t stride) {
  Vec scale, least;
  load_two_columns(&rows->scale, stride, scale, least);
  return {scale, multiply_add(scale, splat(kOffset), least)};
}

/** 32 inputs q * scale. */
struct InputBlock {
  int32_t pairs[16];  // q of columns 4i and 4i + 2, then of 4i + 1 and 4i + 3
  float scale;
  int32_t offset;  // -kOffset times the sum of q
  float sum;       // of the inputs
};

/** The largest q. */
constexpr float kLargestInput = 32767;

/** Vectors of a block. */
constexpr int kBlockParts = 32 / kLanes;

/** What 32 inputs are divided by; NaN where one of them is no finite number. */
struct Largest {
  float magnitude;
  float strange;  // 0, or that NaN
};
/** As whole numbers, magnitudes of what is not finite are the largest. */
DEVICE Largest largest_of(const Vec (&x)[kBlockParts]) {
  VecInt most = {};
  for (const Vec& part : x) {
    const VecInt magnitude = (VecInt)part & 0x7fffffff;
    most = magnitude > most ? magnitude : most;
  }
  const int32_t bits = max_lane(most);
  return {float_from_bits(bits), bits < 0x7f800000 ? 0.0f : __builtin_nanf("")};
}

/** block := 32 inputs, rounded to the nearest q; its scale is NaN where one of them is no finite number. Where all are below 2^-112, or zero,
 *  q is anything, and the scale as small, or zero. */
DEVICE void write_block(InputBlock* block, const Vec (&x)[kBlockParts]) {
  const auto [largest, strange] = largest_of(x);
  const Vec inverse = splat(kLargestInput / largest);
  VecInt sum = {};
  for (int i = 0; i < kBlockParts; i += 2) {
    const Vec magic = splat(0x1.8p23f);  // adding it rounds to an integer, kept in the low bits
    const VecInt a = (VecInt)(x[i] * inverse + magic), b = (VecInt)(x[i + 1] * inverse + magic);
    const VecInt pairs = (even_twos(a, b) & 0xffff) | odd_twos(a, b) << 16;
    memcpy(block->pairs + i / 2 * kLanes, &pairs, sizeof pairs);
    sum = add_products(pairs, VecInt{} + 0x10001, sum);
  }
  block->scale = largest / kLargestInput + strange;
  const int32_t total = sum_of(sum);
  block->offset = -kOffset * total;
  block->sum = block->scale * (float)total;
}

/** 32 inputs q * scale, in 8 bits. */
struct InputBytes {
  int32_t words[8];  // q of columns 4i to 4i + 3
  float scale;
  int32_t offset;  // -kOffset times the sum of q, in the parts of a word that add_bytes has
  float sum;       // of the inputs
};

/** The largest q of them. */
constexpr float kLargestByte = 127;

/** The same in 8 bits. */
DEVICE void write_block(InputBytes* block, const Vec (&x)[kBlockParts]) {
  const auto [largest, strange] = largest_of(x);
  const Vec inverse = splat(kLargestByte / largest);
  int8_t q[32];
  for (int i = 0; i < kBlockParts; ++i) {
    const VecInt rounded = (VecInt)(x[i] * inverse + splat(0x1.8p23f));
    for (int lane = 0; lane < kLanes; ++lane) q[i * kLanes + lane] = (int8_t)rounded[lane];
  }
  memcpy(block->words, q, sizeof q);
  ByteSums sums = {};
  for (int i = 0; i < 8; i += kLanes) {
    VecInt words = {};
    memcpy(&words, block->words + i, 4 * smaller(kLanes, 8));
    sums = add_bytes(VecInt{} + kOffset * 0x01010101, words, sums);
  }
  constexpr int parts = sizeof(int32_t) / sizeof(ByteSum);
  ByteSum offset[parts] = {};
  int32_t total = 0;
  for (int i = 0; i < kLanes * parts; ++i) {
    offset[i % parts] -= sums[i];
    total += sums[i];
  }
  memcpy(&block->offset, offset, sizeof offset);
  block->scale = largest / kLargestByte + strange;
  block->sum = block->scale * (float)(total / kOffset);
}

template <int Bits> struct InputOfBits {
  using Type = InputBlock;
};
template <> struct InputOfBits<8> {
  using Type = InputBytes;
};
/** Of rows in blocks of whole numbers. */
using BlockInput = InputOfBits<kInputBits>::Type;

/** Writes one token's blocks of BlockInput [padded(K) / 32][tokens]; at and one as write_steps has them. */
template <int K, class At, class One> DEVICE void write_blocks(BlockInput* to, int tokens, At&& at, One&& one) {
  for (int first = 0; first < padded(K); first += 32, to += tokens) {
    Vec x[kBlockParts];
    if (first + 32 <= K) {
      for (int part = 0; part < kBlockParts; ++part) x[part] = at(first + part * kLanes);
    } else {
      float rest[32] = {};
      for (int i = 0; first + i < K; ++i) rest[i] = one(first + i);
      for (int part = 0; part < kBlockParts; ++part) x[part] = load(rest + part * kLanes);
    }
    write_block(to, x);
  }
}

/** Writes token `token` of `tokens` into the input of a product with rows of W. */
template <class W, int K, class At, class One>
DEVICE void write_input(Block& b, int tokens, int token, At&& at, One&& one) {
  using Number = typename MultipliedAs<W>::Type;
  if constexpr (kWhole<W>) {
    write_blocks<K>((BlockInput*)b.scratch + token, tokens, at, one);
  } else if (one_by_one(b, tokens)) {
    write_steps<Exact<Number>, K>(b.scratch + (int64_t)token * padded(K), 1, 0, at, one);
  } else {
    write_steps<Shared<Number>, K>(b.scratch, tokens, token, at, one);
  }
}

/** Input := src [tokens][K], for rows of W. */
template <int K, class W = Matrix> DEVICE void gather_input(Block& b, const float* src, int tokens) {
  for (int token = 0; token < tokens; ++token) {
    const float* x = src + (int64_t)token * K;
    write_input<W, K>(
        b, tokens, token, [=](int i) { return load(x + i); }, [=](int i) { return x[i]; });
  }
}

/** Input := RMSNorm of src [tokens][K] with weight [K]: x / sqrt(mean(x^2) + eps) * weight. */
template <int K, class W = Matrix>
DEVICE void norm_input(Block& b, const float* src, const float* weight, float eps, int tokens) {
  for (int token = 0; token < tokens; ++token) {
    const float* x = src + (int64_t)token * K;
    const float scale = norm_scale<K>(x, eps);
    write_input<W, K>(
        b, tokens, token, [=](int i) { return load(x + i) * splat(scale) * load(weight + i); },
        [=](int i) { return x[i] * scale * weight[i]; });
  }
}
