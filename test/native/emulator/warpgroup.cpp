#include "warpgroup.h"

#include <cstring>

#include "launch.h"

namespace emu {

namespace {

/** A matrix of 16-bit elements in shared memory: cells of 8 rows x 32 columns, 64 bytes a row, swizzled by 64 bytes. */
struct Matrix {
  uint32_t first, columns_stride, rows_stride;

  explicit Matrix(uint64_t descriptor)
      : first(uint32_t(descriptor & 0x3fff) << 4),
        columns_stride(uint32_t(descriptor >> 16 & 0x3fff) << 4),
        rows_stride(uint32_t(descriptor >> 32 & 0x3fff) << 4) {
    if (descriptor >> 62 != 2) fail("wgmma: a matrix that is not swizzled by 64 bytes is not known to the emulator");
  }

  uint16_t at(int row, int column) const {
    const uint32_t plain = first + uint32_t(row / 8) * rows_stride + uint32_t(row % 8) * 64 + uint32_t(column / 32) * columns_stride + uint32_t(column % 32) * 2;
    uint16_t bits;
    memcpy(&bits, shared_memory(plain ^ (plain >> 7 & 3) << 4, 2), 2);
    return bits;
  }
};

/** Rows lane / 4 and 8 behind it of the left matrix. */
void load_left(const Products& p, float (&x)[2][16]) {
  for (int half = 0; half < 2; ++half)
    for (int k = 0; k < 16; ++k) {
      const int row = int(current->index.x / 32 % 4) * 16 + current->lane / 4 + half * 8;
      x[half][k] = value_of(p.type, Matrix(p.left).at(row, k));
    }
}

/** The sums of one thread: rows of its warp, columns 8 n + 2 (lane % 4) on. */
void carry_out(const Products& p) {
  const Matrix right(p.right);
  const int column0 = current->lane % 4 * 2;
  float x[2][16];
  if (p.in_registers)
    memcpy(x, p.x, sizeof x);
  else
    load_left(p, x);
  for (size_t n = 0; n < p.sums.size() / 4; ++n)
    for (int c = 0; c < 2; ++c) {
      const int column = int(n) * 8 + column0 + c;
      float w[16];
      for (int k = 0; k < 16; ++k) w[k] = value_of(p.type, p.over ? right.at(k, column) : right.at(column, k));
      for (int half = 0; half < 2; ++half) {
        float& sum = *p.sums[n * 4 + size_t(half * 2 + c)];
        if (p.fresh) sum = 0;
        for (int k = 0; k < 16; ++k) sum += x[half][k] * w[k];
      }
    }
}

}  // namespace

void begin_products(const Products& products, const Place& place) {
  sync_warp(~0u, place);
  current->products.begun.push_back(products);
}

void end_products() {
  ProductGroups& all = current->products;
  all.groups.push_back(std::move(all.begun));
  all.begun.clear();
}

void wait_products(int left) {
  auto& groups = current->products.groups;
  while (int(groups.size()) > left) {
    for (const Products& products : groups.front()) carry_out(products);
    groups.erase(groups.begin());
  }
}

}  // namespace emu
