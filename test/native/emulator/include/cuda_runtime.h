// In the place of CUDA's own header, which g++ cannot read beside the emulator's names.
#pragma once
#include <cuda_runtime_api.h>
