#include "tensor_maps.h"

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstring>

#include "launch.h"

namespace {

/** What a map of ours holds, in the place of what the driver's does. */
struct Map {
  uint64_t mark;
  const char* first;
  uint64_t sizes[4], strides[4];  // elements; bytes
  uint32_t box[4], element;       // elements; bytes
};
static_assert(sizeof(Map) <= sizeof(CUtensorMap));
constexpr uint64_t kMark = 0x6d61702d6f662d34;

CUresult encode(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* first, const cuuint64_t* sizes, const cuuint64_t* strides,
                const cuuint32_t* box, const cuuint32_t* steps, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion,
                CUtensorMapFloatOOBfill) {
  const bool known = type == CU_TENSOR_MAP_DATA_TYPE_UINT16 && rank == 4 && interleave == CU_TENSOR_MAP_INTERLEAVE_NONE &&
                     swizzle == CU_TENSOR_MAP_SWIZZLE_NONE;
  bool legal = known && reinterpret_cast<uintptr_t>(map) % alignof(CUtensorMap) == 0 && reinterpret_cast<uintptr_t>(first) % 16 == 0 && box[0] * 2 % 16 == 0;
  for (unsigned i = 0; i < rank; ++i) legal = legal && sizes[i] >= 1 && sizes[i] <= uint64_t{1} << 32 && box[i] >= 1 && box[i] <= 256 && steps[i] == 1;
  for (unsigned i = 0; i + 1 < rank; ++i) legal = legal && strides[i] % 16 == 0 && strides[i] < uint64_t{1} << 40 && strides[i] > 0;
  if (!legal) return CUDA_ERROR_INVALID_VALUE;
  Map made{kMark, static_cast<const char*>(first), {}, {2}, {}, 2};
  memcpy(made.sizes, sizes, sizeof made.sizes);
  memcpy(made.strides + 1, strides, 3 * sizeof *strides);
  memcpy(made.box, box, sizeof made.box);
  memcpy(map, &made, sizeof made);
  return CUDA_SUCCESS;
}

}  // namespace

extern "C" cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** found, unsigned, unsigned long long, cudaDriverEntryPointQueryResult* result) {
  *found = strcmp(symbol, "cuTensorMapEncodeTiled") == 0 ? reinterpret_cast<void*>(encode) : nullptr;
  if (result) *result = *found ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}

namespace emu {

void copy_box(uint32_t to, const void* map, const int (&at)[4], char* barrier) {
  Map m;
  memcpy(&m, map, sizeof m);
  if (m.mark != kMark) fail("a tensor copy with a map that was not made");
  const size_t line = size_t{m.box[0]} * m.element, bytes = line * m.box[1] * m.box[2] * m.box[3];
  if (to % 128 != 0) fail("a tensor copy to an address that is no multiple of 128");
  char* const target = shared_memory(to, bytes);
  if (at[0] != 0 || m.box[0] != m.sizes[0]) fail("a tensor copy of a part of a line is not known to the emulator");
  const int first[3] = {at[1], at[2], at[3]};
  later([=] {
    char* out = target;
    for (uint32_t z = 0; z < m.box[3]; ++z)
      for (uint32_t y = 0; y < m.box[2]; ++y)
        for (uint32_t x = 0; x < m.box[1]; ++x, out += line) {
          const int64_t p[3] = {first[0] + int64_t{x}, first[1] + int64_t{y}, first[2] + int64_t{z}};
          bool inside = true;
          const char* from = m.first;
          for (int i = 0; i < 3; ++i) inside = inside && p[i] >= 0 && uint64_t(p[i]) < m.sizes[i + 1], from += p[i] * int64_t(m.strides[i + 1]);
          if (inside)
            memcpy(out, from, line);
          else
            memset(out, 0, line);
        }
    land_bytes(barrier, uint32_t(bytes));
  });
}

}  // namespace emu
