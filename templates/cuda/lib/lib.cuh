// The kernel library of the CUDA target: every function the stages call. model.h is included before.
#pragma once
#include "attention.cuh"
#include "barrier.cuh"
#include "block.cuh"
#include "input.cuh"
#include "loads.cuh"
#include "matmul.cuh"
#include "norm.cuh"
#include "ops.cuh"
#include "sampler.cuh"
#include "types.cuh"
