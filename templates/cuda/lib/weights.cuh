// How a lane takes the weights of one token's product: kLoadBits at once, into registers or into buffers in shared memory.
#pragma once
#include "block.cuh"
#include "mbarrier.cuh"

static_assert(kLoadBits == 64 || kLoadBits == 128);
static_assert(kProducerWarps == 0 || kBuffers > 0, "producers copy into buffers");

/** One load of a lane, and its elements. */
using Load = std::conditional_t<kLoadBits == 128, uint4, uint2>;
constexpr int kLoadElements = int(sizeof(Load) / sizeof(Matrix));

/** Warps that multiply; those behind them copy. */
constexpr int kComputeWarps = kWarps - kProducerWarps;

DEVICE void load_weights(uint4& v, const void* address, bool wanted) { v = load_weight(address, wanted); }

/** 8 bytes of weights, as load_weight. */
DEVICE void load_weights(uint2& v, const void* address, bool wanted) {
  asm volatile(
      "{\n\t.reg .pred p;\n\tsetp.ne.u32 p, %3, 0;\n\tmov.u32 %0, 0;\n\tmov.u32 %1, 0;\n\t"
      "@p ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];\n\t}"
      : "=&r"(v.x), "=&r"(v.y)
      : "l"(__cvta_generic_to_global(address)), "r"(unsigned(wanted)));
}

// ---- the buffers

/** Loads of a lane that a buffer holds: two matrices that are interleaved have one each. */
constexpr int kBufferLoads = kInFlight < 2 ? 2 : kInFlight;
static_assert(kRingBytes == kBuffers * kComputeWarps * kBufferLoads * 32 * int(sizeof(Load)),
              "see codegen/schemes/barriers/tuning.ts");

/** A lane's place for its load `i` of a buffer of a warp; loads of a warp lie side by side. */
DEVICE Load* buffered(Block& b, int buffer, int warp, int i) {
  Load* const ring = reinterpret_cast<Load*>(b.scratch + kScratchFloats);
  return ring + ((buffer * kComputeWarps + warp) * kBufferLoads + i) * 32 + lane();
}

/** Begins to copy one load of weights. */
DEVICE void copy_weights(Load* to, const void* from) {
  if constexpr (kLoadBits == 128)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(__cvta_generic_to_global(from)) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(shared_address(to)), "l"(__cvta_generic_to_global(from)) : "memory");
}

/** Of each buffer of each warp that computes: it is full, it may be filled again. */
struct Handover {
  uint64_t full[kProducerWarps > 0 ? kComputeWarps * kBuffers : 1], empty[kProducerWarps > 0 ? kComputeWarps * kBuffers : 1];
};

DEVICE Handover& handover() {
  __shared__ Handover shared;
  return shared;
}

/** Before the first product; the block meets at its beginning. */
DEVICE void start_handover() {
  if constexpr (kProducerWarps > 0) {
    for (int i = int(threadIdx.x); i < kComputeWarps * kBuffers; i += kThreads) {
      mbarrier_init(handover().full + i, 32);
      mbarrier_init(handover().empty + i, 1);
    }
  }
}
