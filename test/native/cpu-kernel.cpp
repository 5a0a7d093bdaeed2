// Uses every function of the CPU library once, as a generated kernel does: what such an object file exports is looked at, it is never run.
#include "abi.h"
#include "lib/types.h"

using Matrix = bf16;
using Cache = bf16;
constexpr int kPassTokens = 8, kVocab = 100, kLayers = 1, kKvHeads = 1, kHeadDim = 20, kGroup = 2, kSplits = 2, kScratchFloats = 0;
constexpr int64_t kActivationBytes = 0;
constexpr float kInvFreq[] = {1.0f, 0.5f};
constexpr int kRotatedPairs = 2;
constexpr float kRotatedSize = 1;
constexpr float kAttnScale = 1;
constexpr int kInputBits = 16;
struct Pass {
  int tokens, position, first_logits, sample, context;
  Sampling sampling;
  const int* ids;
  int* next;
  int* counts;
  const char* weights;
  Cache* cache;
  const float* rope;
  float* logits;
  const float* x;
  const Matrix* w;
};
struct Weights {
  int layer;
};
// What model.h has for a model.
static inline int turned_by(int, int position) { return position; }
static inline int window_of(int) { return 0; }
static inline Range positions_of(const Pass& pass, const Weights&, int) { return {0, pass.position + pass.tokens}; }
static inline Cache* cache_row(const Pass& pass, const Weights&, int, int position) { return pass.cache + position * 2 * kHeadDim; }
static inline void bind_activations(Pass&, char*) {}
static inline const float* rope_row(const Pass& pass, const Weights&, int) { return pass.rope; }
#define ISA_NAME test
#include "lib/lib.h"

static void decode(Block& b, const Pass& pass) {
  float* const out = b.scratch + 10000;
  const Weights w{0};
  const Range rows = block_range(b, 50);
  norm_input<40>(b, pass.x, pass.x, 1e-6f, 8);
  matmul<40, 2>(b, pass.w, rows, 8, [&](int row, int token, const float(&y)[2]) { out[token * 50 + row] = y[0] * y[1]; });
  gather_input<40>(b, pass.x, 1);
  matmul<40, 1>(b, pass.w, rows, 1, [&](int row, int, const float(&y)[1]) { out[row] += y[0]; });
  prefetch_rows<40, 1>(b, pass.w, rows);
  grid_barrier(b);
  for_warps(b, 3, [&](int i) {
    head_norm<20>(out + i * 20, pass.x, pass.x, 1e-6f);
    rope<20>(out, out, rope_row(b, pass, w, i));
    append<20>(token_row(b, pass, w, 0, i), pass.x, pass.x);
  });
  for_threads(b, 3, [&](int i) { out[i] += lane(); });
  attend_rows<20, 2, 2>(b, 0, pass.x, 40, pass, w, 0, out, 88, 0);
  merge<20, 2>(b, out, pass.x);
  merge_input<40, 20, 2>(b, pass.x, 8);
  norm<40>(b, out, pass.x, pass.x, 1e-6f);
  embed<40>(b, out, pass.w, pass.next, 8, {0, 40});
  choose(b, pass, 0);
}

KERNEL_ENTRY
