// Rows that are multiplied as numbers: plain ones where they lie, those in blocks unpacked a few at a time.
#pragma once
#include "lib/simd.h"

/** Rows and columns of a tile: 192 KB of bf16, and 256 KB of input for 64 tokens, in an L2 cache of 512 KB. On one Zen 3 core
 *  with K = 1024 and 64 tokens, 24 rows gave 70 GFlop/s, 48 rows 81, 96 rows 84, 192 rows 81; its FMA units alone make 104. */
constexpr int kTileRows = 96;
constexpr int kChunk = 1024;

/** Bytes that one token's product asks for ahead of itself; rows follow each other in memory, so past its end the next row begins.
 *  Two Zen 3 cores, rows of 1024: 31 to 33 GB/s without, 32 to 36 with 1 KB, 29 to 32 with 2 or 4 KB; 24 with two rows at once. */
constexpr int kAhead = 1024;

// As in step.h: what has a name here is this instruction set's own.
namespace {
/** A row in blocks from one of its numbers on, multiplied as it is unpacked: one Zen 3 core, fp8, one token, K = 1024: 16
 *  GFlop/s in the place of 12 in the cache, 14 for 12 from memory. */
template <class W> struct BlockRow {
  const W* block;
  int number;  // of the block
  BlockRow operator+(int numbers) const { return {block + (number + numbers) / 32, (number + numbers) % 32}; }
};
}  // namespace

/** The numbers of so many blocks. */
template <class W> NOINLINE void unpack_numbers(const W* block, int blocks, float* out) {
  for (const W* const end = block + blocks; block < end; ++block, out += 32) {
    __builtin_prefetch((const char*)block + kAhead);
    const Vec scale = splat(block->scale);
    for (int i = 0; i < 32; i += kLanes) store(out + i, load(block->q + i) * scale);
  }
}

// Where a row is read.
template <class W> DEVICE const char* place(const W* row) { return (const char*)row; }
template <class W> DEVICE const char* place(BlockRow<W> row) { return (const char*)(row.block->q + row.number); }

template <class W> DEVICE Vec load_first(BlockRow<W> row) { return load(row.block->q + row.number) * splat(row.block->scale); }
template <class W> DEVICE Vec load_second(BlockRow<W> row) { return load(row.block->q + row.number + kLanes) * splat(row.block->scale); }

// Members of a class are not static; in a namespace without a name they stay in this instruction set's object, too.
namespace {

/** Rows of a matrix of Width columns. */
template <class W, int Width> struct Rows {
  using Number = W;
  static constexpr int tile_rows = kTileRows, chunk = kChunk;  // of a tile
  static constexpr int64_t stride = Width;                     // from one row of it to the next
  explicit Rows(const W* matrix) : w(matrix) {}
  const W* const w;
  const Number* row(int64_t row) { return w + row * Width; }
  const Number* once(int64_t row) { return w + row * Width; }  // to be read once
  /** Columns [column, column + columns) of rows [row, row + count). */
  const Number* tile(int64_t row, int, int column, int) { return w + row * Width + column; }
};

/** 96 KB of them at a time: they stay in the L2 cache while all tokens pass. */
template <int Width> struct Rows<fp8_block, Width> {
  using Number = float;
  static constexpr int tile_rows = kTileRows / 2, chunk = kChunk / 2;
  static constexpr int64_t stride = chunk;
  explicit Rows(const fp8_block* matrix) : w(matrix) {}
  const fp8_block* const w;
  float numbers[larger(tile_rows * chunk, Width)];
  const float* row(int64_t row) {
    unpack_numbers(w + row * (Width / 32), Width / 32, numbers);
    return numbers;
  }
  BlockRow<fp8_block> once(int64_t row) { return {w + row * (Width / 32), 0}; }
  const float* tile(int64_t row, int count, int column, int columns) {
    for (int i = 0; i < count; ++i) unpack_numbers(w + (row + i) * (Width / 32) + column / 32, columns / 32, numbers + i * stride);
    return numbers;
  }
};

}  // namespace
