// The operands of products as the copy engine takes them: boxes of two cells of some groups.
#pragma once
#if WGMMA
#include <cuda.h>
#include <cuda_runtime_api.h>

#include "device.h"
#include "prompt.h"

/** [layers][groups][cells] cells, layer_bytes from layer to layer; a copy takes two cells of `box` groups. The map must stay where it is made:
 *  the driver asks for its alignment, which copies on the stack need not have. */
inline void make_map(CUtensorMap& map, const void* first, int64_t layers, int64_t layer_bytes, int64_t groups, int64_t cells, int box) {
  static const auto encode = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result;
    CUDA(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result));
    if (!found) throw Failure{kStatusDevice, "the driver has no tensor maps"};
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(found);
  }();
  constexpr cuuint64_t kCell = 512;  // bytes
  const cuuint64_t sizes[4] = {kCell / 2, cuuint64_t(cells), cuuint64_t(groups), cuuint64_t(layers)};
  const cuuint64_t strides[3] = {kCell, kCell * cuuint64_t(cells), cuuint64_t(layer_bytes)};
  const cuuint32_t box_sizes[4] = {kCell / 2, 2, cuuint32_t(box), 1}, steps[4] = {1, 1, 1, 1};
  const CUresult status = encode(&map, CU_TENSOR_MAP_DATA_TYPE_UINT16, 4, const_cast<void*>(first), sizes, strides, box_sizes, steps,
                                 CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                                 CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) throw Failure{kStatusDevice, "cuTensorMapEncodeTiled: " + std::to_string(status)};
}
#endif
