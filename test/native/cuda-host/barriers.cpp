// The stand-in of a kernel of grid barriers.
#include "kernel.h"
#include "runtime.h"

Kernel& kernel() {
  static Kernel instance;
  return instance;
}

const char* const kLoss = "barrier: block 2 waited more than 2 s at grid barrier 7 of the pass";

char weight_at(const Pass& pass, int64_t offset) { return pass.weights[offset]; }

cudaError_t kernel_blocks(int, int* blocks) {
  *blocks = kernel().fits ? 4 : 0;
  return cudaSuccess;
}

static void decode(const Pass& pass) {
  unsigned* const error = pass.barrier + kBarrierError;
  if (kernel().loses) error[0] = 3, pass.barrier[kBarrierOrdinal] = 7, pass.barrier[kBarrierArrivals] = 1;
  kernel().loses = false;
  if (*error != 0) return;
  if (pass.barrier[kBarrierArrivals] != 0) kernel().wrong = "arrivals of another launch";
  const int token = run_pass(pass, pass.ids, pass.tokens, pass.position);
  if (pass.sample) *pass.next = token;
}

cudaError_t kernel_launch(const Pass& pass, int blocks, cudaStream_t stream) {
  if (blocks != 4) kernel().wrong = "blocks";
  on_stream(stream, [pass] { decode(pass); });
  return cudaSuccess;
}

void check_scheme() {}
