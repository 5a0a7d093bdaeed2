// Pieces of 16 bytes on their way from memory through shared memory to the matrix instructions.
#pragma once
#include "block.cuh"
#include "stream/tensor.cuh"

namespace tiles {

/** Begins to copy 16 bytes, or as many zeros. */
DEVICE void copy_piece(uint32_t to, const void* from, bool wanted) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(__cvta_generic_to_global(from)), "r"(wanted ? 16 : 0)
               : "memory");
}

/** Four 8x8 matrices of 16-bit elements: lane l gives the address of row l % 8 of matrix l / 8. */
DEVICE void load_matrices(uint32_t (&v)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
               : "r"(address)
               : "memory");
}

/** The same, each matrix transposed. */
DEVICE void load_transposed(uint32_t (&v)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
               : "r"(address)
               : "memory");
}

}  // namespace tiles
