// Copies of boxes of tensors, as cuTensorMapEncodeTiled describes them.
#pragma once
#include <cstdint>

namespace emu {

/** Begins to copy the box at some coordinates, zeros where it is out of bounds; the barrier hears of its bytes when they are there. */
void copy_box(uint32_t to, const void* map, const int (&at)[4], char* barrier);

}  // namespace emu
