// Products of four warps (wgmma), which go on while their threads do.
#pragma once
#include <cstdint>
#include <vector>

#include "matrix.h"

namespace emu {

/** One wgmma.mma_async as a thread sees it: its sums, and where both matrices are. */
struct Products {
  Element type;
  std::vector<float*> sums;  // of m64nNk16: four of every 8 columns
  uint64_t left, right;      // descriptors
  bool in_registers;         // the left one was: x has this thread's rows of it
  float x[2][16];
  bool over;                 // the columns go over the rows of the right one
  bool fresh;                // the sums begin anew
};

/** What a thread has asked for, in order; groups are carried out as late as they may. */
struct ProductGroups {
  std::vector<Products> begun;                // since the last group
  std::vector<std::vector<Products>> groups;  // that are not waited for
};

void begin_products(const Products& products, const Place& place);
void end_products();
/** Returns when at most `left` groups of this thread are under way. */
void wait_products(int left);

}  // namespace emu
