// What the host calls of the kernel's side; lib/launch.cuh or stream/launch.cuh defines it.
#pragma once
#include <cuda_runtime_api.h>

#include "model.h"

/** The blocks of a launch, which all are on the GPU together; 0 if they do not fit. */
cudaError_t kernel_blocks(int gpu, int* blocks);
/** Starts a launch. Its blocks wait for each other, so all of them start together. */
cudaError_t kernel_launch(const Pass& pass, int blocks, cudaStream_t stream);
/** masked [kVocab] := bias [kVocab], or zeros where it is null, and -infinity for tokens [vocab] without a bit in words; lib/mask.cuh defines it. */
cudaError_t kernel_mask(const unsigned* words, const float* bias, int vocab, float* masked, cudaStream_t stream);
