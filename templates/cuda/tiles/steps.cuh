// How a tile of a product is summed: by what this GPU has.
#pragma once
#if WGMMA
#include "steps_wgmma.cuh"
#else
#include "steps_mma.cuh"
#endif
