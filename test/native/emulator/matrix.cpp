#include "matrix.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstring>

#include "launch.h"

namespace emu {

float value_of(Element type, uint16_t bits) {
  if (type == Element::kBf16) {
    const uint32_t wide = uint32_t(bits) << 16;
    float x;
    memcpy(&x, &wide, 4);
    return x;
  }
  __half_raw raw;
  raw.x = bits;
  return __half2float(__half(raw));
}

namespace {

/** Records of one struct, as `combine` sees them. */
template <class Record>
Record& record_of(void* const (&records)[32], int lane) {
  return *static_cast<Record*>(records[lane]);
}

/** All lanes of a warp, for what is aligned. */
template <class Record>
void whole_warp(Combine combine, const void* kind, Record& record, const Place& place) {
  if (current->warp->exited != 0) fail("lanes of the warp have ended");
  meet(~0u, kind, combine, &record, place);
}

struct Product {
  Element type;
  float (&d)[4];
  const uint32_t (&a)[4];
  const uint32_t (&b)[2];
  const float (&c)[4];
};

float element(Element type, uint32_t word, int half) { return value_of(type, uint16_t(word >> 16 * half)); }

void multiply_all(void* const (&records)[32], uint32_t) {
  float a[16][16], b[16][8];  // rows, columns
  for (int lane = 0; lane < 32; ++lane) {
    const Product& p = record_of<Product>(records, lane);
    const int group = lane / 4, two = lane % 4 * 2;
    for (int half = 0; half < 2; ++half) {
      for (int r = 0; r < 4; ++r) a[group + r % 2 * 8][two + half + r / 2 * 8] = element(p.type, p.a[r], half);
      for (int r = 0; r < 2; ++r) b[two + half + r * 8][group] = element(p.type, p.b[r], half);
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    Product& p = record_of<Product>(records, lane);
    float sum[4];
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      sum[i] = p.c[i];
      for (int k = 0; k < 16; ++k) sum[i] += a[row][k] * b[k][column];
    }
    memcpy(p.d, sum, sizeof sum);
  }
}

struct Rows {
  Element type;
  float (&rows)[2][16];
  const uint32_t (&a)[4];
};

void give_rows(void* const (&records)[32], uint32_t) {
  for (int lane = 0; lane < 32; ++lane)
    for (int half = 0; half < 2; ++half)
      for (int k = 0; k < 16; ++k) {
        const Rows& from = record_of<Rows>(records, lane / 4 * 4 + k % 8 / 2);
        record_of<Rows>(records, lane).rows[half][k] = element(from.type, from.a[half + k / 8 * 2], k % 2);
      }
}

struct Matrices {
  uint32_t* registers;
  unsigned count;
  bool transposed;
  uint32_t row;
};

/** Where the two elements of a lane's register for matrix `m` lie. */
template <class Use>
void each_element(void* const (&records)[32], Use&& use) {
  for (int lane = 0; lane < 32; ++lane) {
    const Matrices& mine = record_of<Matrices>(records, lane);
    for (unsigned m = 0; m < mine.count; ++m)
      for (int half = 0; half < 2; ++half) {
        const int first = lane / 4, second = lane % 4 * 2 + half;
        const int row = mine.transposed ? second : first, column = mine.transposed ? first : second;
        use(mine.registers[m], half, shared_memory(record_of<Matrices>(records, int(m) * 8 + row).row, 16) + column * 2);
      }
  }
}

void load_all(void* const (&records)[32], uint32_t) {
  each_element(records, [](uint32_t& to, int half, const char* from) {
    uint16_t bits;
    memcpy(&bits, from, 2);
    to = half ? (to & 0xffff) | uint32_t(bits) << 16 : (to & 0xffff0000) | bits;
  });
}

void store_all(void* const (&records)[32], uint32_t) {
  each_element(records, [](uint32_t from, int half, char* to) {
    const auto bits = uint16_t(from >> 16 * half);
    memcpy(to, &bits, 2);
  });
}

struct Value {
  uint64_t value;
  unsigned lane;  // that is read
  uint64_t got;
  bool has;
};

void exchange(void* const (&records)[32], uint32_t mask) {
  for (int lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    Value& mine = record_of<Value>(records, lane);
    mine.has = mask >> mine.lane & 1;
    mine.got = mine.has ? record_of<Value>(records, int(mine.lane)).value : 0xfeedfacecafebeefull;
  }
}

struct Votes {
  uint64_t value;
  uint32_t got;
};

void count_votes(void* const (&records)[32], uint32_t mask) {
  uint32_t yes = 0;
  for (int lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1) yes |= uint32_t(record_of<Votes>(records, lane).value != 0) << lane;
  for (int lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1) record_of<Votes>(records, lane).got = yes;
}

void find_equal(void* const (&records)[32], uint32_t mask) {
  for (int lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    Votes& mine = record_of<Votes>(records, lane);
    mine.got = 0;
    for (int other = 0; other < 32; ++other)
      if ((mask >> other & 1) && record_of<Votes>(records, other).value == mine.value) mine.got |= 1u << other;
  }
}

void nothing(void* const (&)[32], uint32_t) {}

struct Reduced {
  Reduce kind;
  bool is_signed;
  uint32_t value, got;
};

uint32_t reduced(const Reduced& how, uint32_t a, uint32_t b) {
  const bool less = how.is_signed ? int32_t(a) < int32_t(b) : a < b;
  switch (how.kind) {
    case Reduce::kAdd: return a + b;
    case Reduce::kMin: return less ? a : b;
    case Reduce::kMax: return less ? b : a;
    case Reduce::kAnd: return a & b;
    case Reduce::kOr: return a | b;
    default: return a ^ b;
  }
}

void reduce_all(void* const (&records)[32], uint32_t mask) {
  const int first = __builtin_ctz(mask);
  const Reduced& how = record_of<Reduced>(records, first);
  uint32_t all = how.value;
  for (int lane = first + 1; lane < 32; ++lane)
    if (mask >> lane & 1) all = reduced(how, all, record_of<Reduced>(records, lane).value);
  for (int lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1) record_of<Reduced>(records, lane).got = all;
}

/** What tells collectives apart. */
const char kMultiply = 0, kLoad = 0, kStore = 0, kVote = 0, kMatch = 0, kSync = 0, kReduce = 0, kShuffle[4] = {};

}  // namespace

void rows_of(Element type, float (&rows)[2][16], const uint32_t (&a)[4], const Place& place) {
  Rows record{type, rows, a};
  static const char kind = 0;
  whole_warp(give_rows, &kind, record, place);
}

void multiply(Element type, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const float (&c)[4], const Place& place) {
  Product product{type, d, a, b, c};
  whole_warp(multiply_all, &kMultiply, product, place);
}

void load_matrices(uint32_t (&to)[4], unsigned count, bool transposed, uint32_t row, const Place& place) {
  Matrices matrices{to, count, transposed, row};
  whole_warp(load_all, &kLoad, matrices, place);
}

void store_matrices(const uint32_t (&from)[4], unsigned count, bool transposed, uint32_t row, const Place& place) {
  uint32_t registers[4];
  memcpy(registers, from, sizeof registers);
  Matrices matrices{registers, count, transposed, row};
  whole_warp(store_all, &kStore, matrices, place);
}

uint64_t shuffle(Shuffle kind, uint32_t mask, uint64_t value, unsigned lane, unsigned width, bool* found, const Place& place) {
  const unsigned self = unsigned(current->lane), first = self / width * width, last = first + width - 1;
  unsigned from = self;
  switch (kind) {
    case Shuffle::kIndex: from = first + lane % width; break;
    case Shuffle::kUp: from = lane > self - first ? 32 : self - lane; break;
    case Shuffle::kDown: from = self + lane; break;
    case Shuffle::kXor: from = self ^ lane; break;
  }
  const bool inside = from <= last && (kind == Shuffle::kXor || from >= first);
  Value record{value, inside ? from : self, 0, false};
  meet(mask, &kShuffle[int(kind)], exchange, &record, place);
  if (found != nullptr) *found = inside;
  return record.got;
}

uint32_t ballot(uint32_t mask, bool vote, const Place& place) {
  Votes record{vote, 0};
  meet(mask, &kVote, count_votes, &record, place);
  return record.got;
}

uint32_t match(uint32_t mask, uint64_t value, const Place& place) {
  Votes record{value, 0};
  meet(mask, &kMatch, find_equal, &record, place);
  return record.got;
}

void sync_warp(uint32_t mask, const Place& place) {
  Votes record{};
  meet(mask, &kSync, nothing, &record, place);
}

uint32_t reduce(Reduce kind, bool is_signed, uint32_t mask, uint32_t value, const Place& place) {
  Reduced record{kind, is_signed, value, 0};
  meet(mask, &kReduce, reduce_all, &record, place);
  return record.got;
}

}  // namespace emu
