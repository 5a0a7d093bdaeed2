// What the host calls of the kernels of prompts; tiles/launch.cuh defines it.
#pragma once
#include <cuda_runtime_api.h>

#include "prompt.h"

/** The blocks of a launch, which all are on the GPU together; 0 if they do not fit. */
cudaError_t kernel_prompt_blocks(int gpu, int* blocks);
/** Starts a launch. Its blocks wait for each other, so all of them start together. */
cudaError_t kernel_prompt(const PromptArgs& args, int blocks, cudaStream_t stream);
