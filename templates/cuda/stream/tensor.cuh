// The tensor cores multiply what blocks hand to each other, and what is made of codes.
#pragma once
#include "lib/tensor.cuh"

DEVICE void multiply_tile(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
  multiply_tile_of<Wire>(c, a0, a1, a2, a3, b0, b1);
}
