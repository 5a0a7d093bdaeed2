// The kernel library of the stream plans. model.h is included before.
#pragma once
#include "batch.cuh"
#include "norm.cuh"
#include "pack.cuh"
#include "product.cuh"
#include "sample.cuh"
