// The kernel library of prompts. prompt.h is included before.
#pragma once
#include "attention.cuh"
#include "head_rows.cuh"
#include "heads.cuh"
#include "norm.cuh"
#include "product.cuh"
