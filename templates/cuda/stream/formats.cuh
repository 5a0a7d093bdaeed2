// Formats of matrices: the numbers of a stored row, and cells, whose numbers become what the matrix instruction takes when they are read.
#pragma once
#include "words.cuh"

/** 16 bytes of shared memory. */
DEVICE uint4 load_shared(uint32_t address) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(address) : "memory");
  return v;
}

/** 8 bytes of shared memory. */
DEVICE uint2 load_shared_pair(uint32_t address) {
  uint2 v;
  asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(address) : "memory");
  return v;
}

DEVICE void store_shared(uint32_t address, const uint4& v) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}

// ---- rows

/** Numbers that one W of a stored row holds. */
template <class W>
constexpr int kNumbers = 1;
template <>
constexpr int kNumbers<int8_block> = 32;
template <>
constexpr int kNumbers<int4_block> = 32;
template <>
constexpr int kNumbers<int4_asym_block> = 32;
template <>
constexpr int kNumbers<fp8_block> = 32;

/** Whether a block of W adds a minimum to its numbers. */
template <class W>
constexpr bool kHasLeast = std::is_same_v<W, int4_asym_block>;

/** A row of a matrix of k columns. */
template <class W>
DEVICE const W* stored_row(const W* matrix, int row, int k) {
  return matrix + size_t(row) * (padded(k) / kNumbers<W>);
}

/** Four bits of a block; in int4_block 8 more than the number that they stand for. */
template <class W>
DEVICE unsigned nibble(const W& block, int i) { return block.q[i % 16] >> (i / 16 * 4) & 15; }

DEVICE float to_float(fp8 x) { return __half2float(__ushort_as_half((unsigned short)((x.bits & 0x80) << 8 | (x.bits & 0x7f) << 7))); }

/** Number i of a stored row. */
template <class W>
DEVICE float number(const W* row, int i) {
  return to_float(row[i]);
}
DEVICE float number(const int8_block* row, int i) { return to_float(row[i / 32].scale) * float(row[i / 32].q[i % 32]); }
DEVICE float number(const int4_block* row, int i) { return to_float(row[i / 32].scale) * (float(nibble(row[i / 32], i % 32)) - 8); }
DEVICE float number(const int4_asym_block* row, int i) {
  return fmaf(to_float(row[i / 32].scale), float(nibble(row[i / 32], i % 32)), to_float(row[i / 32].least));
}
DEVICE float number(const fp8_block* row, int i) { return to_float(row[i / 32].scale) * to_float(row[i / 32].q[i % 32]); }

/** Numbers i and i + 1 of a block, i even, without their scale and minimum. */
DEVICE float2 two_at(const int8_block& block, int i) {
  const unsigned pair = __ldg(reinterpret_cast<const unsigned short*>(block.q + i));
  return make_float2(float(int8_t(pair)), float(int8_t(pair >> 8)));
}
template <class W>
DEVICE float2 two_nibbles(const W& block, int i, float less) {
  const unsigned pair = __ldg(reinterpret_cast<const unsigned short*>(block.q + i % 16)) >> (i / 16 * 4);
  return make_float2(float(pair & 15) - less, float(pair >> 8 & 15) - less);
}
DEVICE float2 two_at(const int4_block& block, int i) { return two_nibbles(block, i, 8); }
DEVICE float2 two_at(const int4_asym_block& block, int i) { return two_nibbles(block, i, 0); }
DEVICE float2 two_at(const fp8_block& block, int i) {
  const unsigned pair = __ldg(reinterpret_cast<const unsigned short*>(block.q + i));
  return make_float2(to_float(fp8{uint8_t(pair)}), to_float(fp8{uint8_t(pair >> 8)}));
}

/** Words i to i + N of a stored row, two numbers each, N a power of two that divides i: all of one block. */
template <int N, class W>
DEVICE Words<N> words_of(const W* row, int i) {
  Words<N> w;
  if constexpr (kNumbers<W> == 1) {
#pragma unroll
    for (int j = 0; j < N; ++j) w.v[j] = __ldg(reinterpret_cast<const unsigned*>(row) + i + j);
  } else {
    const W& block = row[i / 16];
    const float scale = to_float(block.scale);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      const float2 pair = two_at(block, (i + j) % 16 * 2);
      if constexpr (kHasLeast<W>) {
        const float least = to_float(block.least);
        w.v[j] = pair_word(fmaf(scale, pair.x, least), fmaf(scale, pair.y, least));
      } else {
        w.v[j] = pair_word(scale * pair.x, scale * pair.y);
      }
    }
  }
  return w;
}

// ---- cells: 8 rows of a product times 32 columns, of which a lane has 8 columns of a row. In a format of blocks their codes come first, then
// the scales of the 8 rows, in one with minima each with its own.

/** Bytes of a cell of plain numbers, 16 a lane. */
constexpr int kCellBytes = 512;
/** Which piece of 16 bytes of a cell a piece of a row is: swizzled so that the same piece of eight rows lies in different banks, for kernels
 *  that read cells as matrices. */
BOTH constexpr int cell_piece(int row, int piece) { return row * 4 + (piece ^ (row >> 1 & 3)); }

/** Bytes of a cell of any format. */
template <class W>
constexpr int kBytesOfCell = kNumbers<W> == 1 ? kCellBytes : kRowTile * int(sizeof(W));
/**
 * How the K columns of a tile are dealt to warps, in cells of 32: each has neighbours, the first warps one more than the others. The cells of a
 * tile lie in the order in which warps read them: the first of every warp, then the second.
 */
template <int K>
struct WarpColumns {
  static constexpr int kCells = divide_up(K, 64) * 2;           // of a tile: prompts take two at once
  static constexpr int kWarpCells = divide_up(kCells, kWarps);  // of a warp, at most
  static constexpr int kRest = kCells % kWarps;                 // warps that have as many; 0: all
  BOTH static constexpr int cells(int warp) { return kRest == 0 || warp < kRest ? kWarpCells : kWarpCells - 1; }
  /** The first cell of a warp, among those that follow the order of the columns. */
  BOTH static constexpr int first(int warp) { return kCells / kWarps * warp + (warp < kRest ? warp : kRest); }
  /** Where one of these lies in the tile. */
  BOTH static constexpr int place(int cell) {
    constexpr int kWide = kRest * kWarpCells, kFewer = kWarpCells > 1 && kRest > 0 ? kWarpCells - 1 : kWarpCells;
    const bool wide = kRest == 0 || cell < kWide;
    const int in_rest = cell - kWide;
    return wide ? cell % kWarpCells * kWarps + cell / kWarpCells : in_rest % kFewer * kWarps + kRest + in_rest / kFewer;
  }
};

/** Cells of one warp that fit into a slot. */
template <class W>
constexpr int kSlotCells = kSlotBytes / (kWarps * kBytesOfCell<W>);

/** Both numbers of a word plus those of another. */
DEVICE unsigned plus(unsigned a, unsigned b) {
  if constexpr (std::is_same_v<Wire, bf16>) {
    const __nv_bfloat162 sum = __hadd2(reinterpret_cast<const __nv_bfloat162&>(a), reinterpret_cast<const __nv_bfloat162&>(b));
    return reinterpret_cast<const unsigned&>(sum);
  } else {
    const __half2 sum = __hadd2(reinterpret_cast<const __half2&>(a), reinterpret_cast<const __half2&>(b));
    return reinterpret_cast<const unsigned&>(sum);
  }
}

/** (x & mask) | bits, in one instruction: two that are known when this is compiled would take two. */
DEVICE unsigned masked_or(unsigned x, unsigned mask, unsigned bits) {
  unsigned y;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(y) : "r"(x), "r"(mask), "r"(bits));
  return y;
}

/** (x & mask) ^ bits. */
DEVICE unsigned masked_xor(unsigned x, unsigned mask, unsigned bits) {
  unsigned y;
  asm("lop3.b32 %0, %1, %2, %3, 0x6a;" : "=r"(y) : "r"(x), "r"(mask), "r"(bits));
  return y;
}

/** The signed bytes at the bottom of each half, as two numbers. A bf16 of [128, 256) ends in 7 bits that count: 128 + the low 7 bits, less
 *  128 or, where the sign is set, 256. A fp16 of [1024, 2048) ends in 10. */
DEVICE unsigned from_bytes(unsigned x) {
  if constexpr (std::is_same_v<Wire, bf16>)
    return plus(masked_or(x, 0x007f007f, 0x43004300), masked_or(x, 0x00800080, 0xc300c300));
  else
    return plus(masked_xor(x, 0x00ff00ff, 0x64806480), 0xe480e480);
}

/** The same of the four bits at the bottom of each half, which are `More` more than their number: 0 or 8. */
template <unsigned More>
DEVICE unsigned from_nibbles(unsigned x) {
  constexpr unsigned kMore = More | More << 16;
  if constexpr (std::is_same_v<Wire, bf16>)
    return plus(masked_or(x, 0x000f000f, 0x43004300), 0xc300c300 + kMore);
  else
    return plus(masked_or(x, 0x000f000f, 0x64006400), 0xe400e400 + kMore);
}

/** Eight numbers of four bits each. */
template <unsigned More>
DEVICE uint4 numbers_of_nibbles(unsigned x) {
  return make_uint4(from_nibbles<More>(x), from_nibbles<More>(x >> 4), from_nibbles<More>(x >> 8), from_nibbles<More>(x >> 12));
}

/** The same of the numbers of fp8 at the top of each half. A bf16 has three bits more of exponent, and less fraction: moved there, they are 2^-112 of what they were. */
DEVICE unsigned from_fp8(unsigned x) {
  if constexpr (std::is_same_v<Wire, bf16>) {
    const unsigned moved = masked_or(x, 0x80008000, x >> 4 & 0x07f007f0), power = 0x77807780;
    const __nv_bfloat162 numbers = __hmul2(reinterpret_cast<const __nv_bfloat162&>(moved), reinterpret_cast<const __nv_bfloat162&>(power));
    return reinterpret_cast<const unsigned&>(numbers);
  } else {
    return masked_or(x, 0x80008000, x >> 1 & 0x3f803f80);
  }
}

/** The scale of a lane's row of a cell. */
struct RowScale {
  float scale = 0;

  /** Returns some bits of the load. */
  DEVICE unsigned load(uint32_t scales) {
    unsigned short half;
    asm volatile("ld.shared.u16 %0, [%1];" : "=h"(half) : "r"(scales + (opaque(::lane()) >> 2) * 2) : "memory");
    scale = __half2float(reinterpret_cast<const __half&>(half));
    return half;
  }
};

/** Where weights are the matrix of 8 columns, a lane has sums of two rows: their scales, in a register of the many that this takes. */
struct PairOfScales {
  unsigned halves = 0;

  DEVICE unsigned load(uint32_t scales) {
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(halves) : "r"(scales + (opaque(::lane()) & 3) * 4) : "memory");
    return halves;
  }
  DEVICE float2 both() const { return __half22float2(reinterpret_cast<const __half2&>(halves)); }
};

/** Scales of a lane's rows of a cell, each with the minimum of its block: one row, or two as in PairOfScales. */
template <int Rows>
struct ScalesAndLeast {
  unsigned halves[Rows] = {};

  DEVICE unsigned load(uint32_t scales) {
    if constexpr (Rows == 1) {
      asm volatile("ld.shared.u32 %0, [%1];" : "=r"(halves[0]) : "r"(scales + (opaque(::lane()) >> 2) * 4) : "memory");
    } else {
      const uint2 both = load_shared_pair(scales + (opaque(::lane()) & 3) * 8);
      halves[0] = both.x, halves[1] = both.y;
    }
    return halves[0];
  }
  /** Of row i: scale and minimum. */
  DEVICE float2 of(int i) const { return __half22float2(reinterpret_cast<const __half2&>(halves[i])); }
};

/** For T tokens. */
template <int T>
using Scales = std::conditional_t<T <= 4, RowScale, PairOfScales>;

/** A lane's part of a cell: numbers as the matrix instruction takes them. */
template <class W, int T>
struct Cell {
  static constexpr bool kScaled = false;
  uint4 numbers = {};

  /** Returns some bits of all loads. */
  DEVICE unsigned load(uint32_t cell) {
    const int lane = ::lane();
    numbers = load_shared(cell + cell_piece(lane >> 2, lane & 3) * 16);
    return numbers.w;
  }
};

/** Two words of a lane as numbers. */
DEVICE uint4 numbers_of_bytes(const int8_block*, uint2 x) { return make_uint4(from_bytes(x.x), from_bytes(x.x >> 8), from_bytes(x.y), from_bytes(x.y >> 8)); }
DEVICE uint4 numbers_of_bytes(const fp8_block*, uint2 x) { return make_uint4(from_fp8(x.x << 8), from_fp8(x.x), from_fp8(x.y << 8), from_fp8(x.y)); }

/** Of codes of a byte. */
template <class W, int T>
struct ByteCell {
  static constexpr bool kScaled = true;
  uint4 numbers = {};
  Scales<T> scales;

  using Codes = uint2;  // of a lane
  static constexpr int kScalesAt = 256;

  DEVICE static uint4 numbers_of(const Codes& x) { return numbers_of_bytes(static_cast<const W*>(nullptr), x); }

  DEVICE unsigned load(uint32_t cell) {
    const Codes x = load_shared_pair(cell + ::lane() * 8);
    const unsigned bits = scales.load(cell + kScalesAt);
    numbers = numbers_of(x);
    return bits | x.y;
  }

  /** Of columns i to i + 8 of a block, as numbers_of() takes them apart. */
  DEVICE static Codes codes_of(const W& block, int i) {
    const auto word = [&](int first) {
      const uint8_t* const q = reinterpret_cast<const uint8_t*>(block.q) + first;
      return q[0] | q[2] << 8 | q[1] << 16 | unsigned(q[3]) << 24;
    };
    return make_uint2(word(i), word(i + 4));
  }
};

template <int T>
struct Cell<int8_block, T> : ByteCell<int8_block, T> {};
template <int T>
struct Cell<fp8_block, T> : ByteCell<fp8_block, T> {};

/** Of codes of four bits, `More` more than their number. */
template <class W, unsigned More, class CellScales>
struct NibbleCell {
  static constexpr bool kScaled = true;
  uint4 numbers = {};
  CellScales scales;

  using Codes = unsigned;
  static constexpr int kScalesAt = 128;

  DEVICE static uint4 numbers_of(Codes x) { return numbers_of_nibbles<More>(x); }

  DEVICE unsigned load(uint32_t cell) {
    Codes x;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(x) : "r"(cell + ::lane() * 4) : "memory");
    const unsigned bits = scales.load(cell + kScalesAt);
    numbers = numbers_of(x);
    return bits | x;
  }

  DEVICE static Codes codes_of(const W& block, int i) {
    Codes x = 0;
    for (int pair = 0; pair < 4; ++pair) x |= nibble(block, i + pair * 2) << pair * 4 | nibble(block, i + pair * 2 + 1) << (pair * 4 + 16);
    return x;
  }
};

template <int T>
struct Cell<int4_block, T> : NibbleCell<int4_block, 8, Scales<T>> {};
template <int T>
struct Cell<int4_asym_block, T> : NibbleCell<int4_asym_block, 0, ScalesAndLeast<T <= 4 ? 1 : 2>> {};

/** Writes a block as a row of a cell, four lanes of 8 columns each. */
template <class W>
DEVICE void pack_row(const W& block, int row, char* cell) {
  using Format = Cell<W, 1>;
  for (int quad = 0; quad < 4; ++quad) reinterpret_cast<typename Format::Codes*>(cell)[row * 4 + quad] = Format::codes_of(block, quad * 8);
  fp16* const scales = reinterpret_cast<fp16*>(cell + Format::kScalesAt);
  if constexpr (kHasLeast<W>)
    scales[row * 2] = block.scale, scales[row * 2 + 1] = block.least;
  else
    scales[row] = block.scale;
}
