// The kernel library of the CPU target: every function the stages call. model.h is included before.
#pragma once
#include "lib/attention.h"
#include "lib/cache.h"
#include "lib/embed.h"
#include "lib/entry.h"
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

/** What is called, as model.h has it. */
template <class Pass> DEVICE Pass pass_of(const Call& call) {
  Pass pass{};
  pass.tokens = call.tokens;
  pass.position = call.position;
  pass.first_logits = call.first_logits;
  pass.sample = call.sample;
  pass.context = call.context;
  pass.sampling = call.sampling;
  pass.ids = call.ids;
  pass.next = call.next;
  pass.counts = call.counts;
  pass.weights = call.weights;
  pass.cache = (Cache*)call.cache;
  pass.rope = call.rope;
  pass.logits = call.logits;
  bind_activations(pass, call.activations);
  return pass;
}

// ISA_NAME comes from the compiler's command line: plain, avx2, avx512 or avx512bf16.
#define KERNEL_JOIN(prefix, name) prefix##name
#define KERNEL_SYMBOL(name) KERNEL_JOIN(kernel_, name)
#define KERNEL_ENTRY \
  static void run_call(const Call& call, Block& b) { decode(b, pass_of<Pass>(call)); } \
  extern "C" const Kernel KERNEL_SYMBOL(ISA_NAME); \
  const Kernel KERNEL_SYMBOL(ISA_NAME) = { \
      run_call,         (int64_t)kLayers * kKvHeads, stored<Cache>(2 * kHeadDim) * (int64_t)sizeof(Cache), \
      kActivationBytes, (kScratchFloats + kLibScratchFloats) * (int64_t)sizeof(float), kInvFreq, kHeadDim, kSplits, \
      kRotatedPairs,    kRotatedSize};
