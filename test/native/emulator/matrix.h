// What whole warps do: matrix products, loads of matrices, shuffles and votes.
#pragma once
#include <cstdint>

namespace emu {

struct Place;

enum class Element { kBf16, kFp16 };
float value_of(Element type, uint16_t bits);

/** mma.m16n8k16: d := a b + c. A lane's registers as the PTX ISA lays fragments out. */
void multiply(Element type, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const float (&c)[4], const Place& place);

/** Rows lane / 4 and 8 behind it of a 16x16 matrix that lies in the registers of a warp as `multiply` has a. */
void rows_of(Element type, float (&rows)[2][16], const uint32_t (&a)[4], const Place& place);

/** ldmatrix: `count` matrices of 8 rows of 16 bytes; lanes 8 i .. 8 i + 7 have the rows of matrix i. */
void load_matrices(uint32_t (&to)[4], unsigned count, bool transposed, uint32_t row, const Place& place);
/** stmatrix: the opposite. */
void store_matrices(const uint32_t (&from)[4], unsigned count, bool transposed, uint32_t row, const Place& place);

enum class Shuffle { kIndex, kUp, kDown, kXor };
/** shfl.sync within segments of `width` lanes; *found: whether the lane that is read is in the segment. */
uint64_t shuffle(Shuffle kind, uint32_t mask, uint64_t value, unsigned lane, unsigned width, bool* found, const Place& place);

/** The lanes of a mask whose vote is yes. */
uint32_t ballot(uint32_t mask, bool vote, const Place& place);
/** The lanes of a mask that have the same value. */
uint32_t match(uint32_t mask, uint64_t value, const Place& place);
void sync_warp(uint32_t mask, const Place& place);

enum class Reduce { kAdd, kMin, kMax, kAnd, kOr, kXor };
uint32_t reduce(Reduce kind, bool is_signed, uint32_t mask, uint32_t value, const Place& place);

}  // namespace emu
