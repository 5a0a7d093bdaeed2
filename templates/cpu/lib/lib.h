// The kernel library of the CPU target: every function the stages call. model.h is included before.
#pragma once
#include "lib/attention.h"
#include "lib/cache.h"
#include "lib/embed.h"
#include "lib/heads.h"
#include "lib/input.h"
#include "lib/matmul.h"
#include "lib/norm.h"
#include "lib/pointwise.h"
#include "lib/rows.h"
#include "lib/scratch.h"
#include "lib/sampler.h"
#include "lib/team.h"
#include "lib/types.h"

// ISA_NAME comes from the compiler's command line: plain, avx2, avx512 or avx512bf16.
#define KERNEL_JOIN(prefix, name) prefix##name
#define KERNEL_SYMBOL(name) KERNEL_JOIN(kernel_run_, name)
#define KERNEL_ENTRY \
  extern "C" void KERNEL_SYMBOL(ISA_NAME)(const Pass& pass, Block& b) { decode(b, pass); }
