// Hand-written stand-in for a generated kernel.cu: the cooperative plan, five stages a layer.
#include "model.h"

#include "lib/lib.cuh"

DEVICE float swiglu(float gate, float up) { return gate / (1.0f + expf(-gate)) * up; }

DEVICE void embed(Block& b, const Pass& pass) {
  const Matrix* const table = reinterpret_cast<const Matrix*>(pass.weights + kEmbeddingAt);
  embed<kHidden>(b, pass.x, table, pass.ids, pass.tokens, block_range(b, kHidden));
}

DEVICE void qkv(Block& b, const Pass& pass, const LayerWeights& w) {
  norm_input<kHidden>(b, pass.x, w.attn_norm, kNormEps, pass.tokens);
  matmul<kHidden, 1>(b, w.qkv, block_range(b, kQkvRows), pass.tokens,
                     [&](int row, int token, const float(&y)[1]) { pass.qkv[token * kQkvRows + row] = y[0]; });
}

DEVICE void attention(Block& b, const Pass& pass, const LayerWeights& w) {
  for (int unit = b.index(); unit < kKvHeads * kSplits; unit += b.count()) {
    const int head = unit / kSplits, split = unit % kSplits;
    const auto row = [&](int token) { return pass.rope + size_t(pass.position + token) * kHeadDim; };
    for_warps(b, pass.tokens * kGroup, [&](int i) {
      const int token = i / kGroup, g = i % kGroup;
      float* const q = b.scratch + kQrAt + i * kHeadDim;
      head_norm<kHeadDim>(q, pass.qkv + token * kQkvRows + (head * kGroup + g) * kHeadDim, w.q_norm, kNormEps);
      rope<kHeadDim>(q, q, row(token));
    });
    Cache* const cache = w.cache + size_t(head) * pass.context * 2 * kHeadDim;
    for_warps(b, split == kSplits - 1 ? pass.tokens : 0, [&](int token) {
      float* const k = b.scratch + kKrAt + token * kHeadDim;
      const float* const from = pass.qkv + token * kQkvRows + kQDim + head * kHeadDim;
      head_norm<kHeadDim>(k, from, w.k_norm, kNormEps);
      rope<kHeadDim>(k, k, row(token));
      append<kHeadDim>(cache + size_t(pass.position + token) * 2 * kHeadDim, k, from + kKvDim);
    });
    __syncthreads();
    const int begin = int(int64_t(pass.position) * split / kSplits);
    const int end = split == kSplits - 1 ? pass.position + pass.tokens : int(int64_t(pass.position) * (split + 1) / kSplits);
    attend<kHeadDim, kGroup, kSplits>(b, kAttendAt, b.scratch + kQrAt, kGroup * kHeadDim, cache,
                                      pass.partial + head * kGroup * kSplits * (kHeadDim + 2), kPartialFloats, split, begin, end,
                                      pass.position, pass.tokens, 0);
    __syncthreads();
  }
}

DEVICE void attn_out(Block& b, const Pass& pass, const LayerWeights& w) {
  merge_input<kQDim, kHeadDim, kSplits>(b, pass.partial, pass.tokens);
  matmul<kQDim, 1>(b, w.o, block_range(b, kHidden), pass.tokens,
                   [&](int row, int token, const float(&y)[1]) { pass.x[token * kHidden + row] += y[0]; });
}

DEVICE void ffn_up(Block& b, const Pass& pass, const LayerWeights& w) {
  norm_input<kHidden>(b, pass.x, w.ffn_norm, kNormEps, pass.tokens);
  matmul<kHidden, 2>(b, w.gate_up, block_range(b, kFfn), pass.tokens,
                     [&](int row, int token, const float(&y)[2]) { pass.h[token * kFfn + row] = swiglu(y[0], y[1]); });
}

DEVICE void ffn_down(Block& b, const Pass& pass, const LayerWeights& w) {
  gather_input<kFfn>(b, pass.h, pass.tokens);
  matmul<kFfn, 1>(b, w.down, block_range(b, kHidden), pass.tokens,
                  [&](int row, int token, const float(&y)[1]) { pass.x[token * kHidden + row] += y[0]; });
}

DEVICE void head(Block& b, const Pass& pass) {
  const int tokens = pass.tokens - pass.first_logits;
  const Matrix* const table = reinterpret_cast<const Matrix*>(pass.weights + kEmbeddingAt);
  const float* const weight = reinterpret_cast<const float*>(pass.weights + kFinalNormAt);
  norm_input<kHidden>(b, pass.x + pass.first_logits * kHidden, weight, kNormEps, tokens);
  matmul<kHidden, 1>(b, table, block_range(b, kVocab), tokens, [&](int row, int token, const float(&y)[1]) {
    pass.logits[size_t(pass.first_logits + token) * kVocab + row] = y[0];
  });
}

DEVICE void sample(Block& b, const Pass& pass) {
  if (b.index() != 0 || !pass.sample) return;
  const float* const logits = pass.logits + size_t(pass.tokens - 1) * kVocab;
  sample(b, logits, pass.sampling, pass.counts, pass.bias, pass.position + pass.tokens, 0, pass.next);
}

__global__ void __launch_bounds__(kThreads, 1) decode(const __grid_constant__ Pass pass) {
  extern __shared__ __align__(128) float scratch[];
  Block b = make_block(scratch, pass.barrier);
  embed(b, pass);
  grid_barrier(b);
  for (int layer = 0; layer < kLayers; ++layer) {
    const LayerWeights w = layer_weights(pass, layer);
    qkv(b, pass, w);
    grid_barrier(b);
    attention(b, pass, w);
    prefetch_rows<kQDim, 1>(b, w.o, block_range(b, kHidden));
    prefetch_rows<kHidden, 2>(b, w.gate_up, block_range(b, kFfn));
    grid_barrier(b);
    attn_out(b, pass, w);
    grid_barrier(b);
    ffn_up(b, pass, w);
    grid_barrier(b);
    ffn_down(b, pass, w);
    grid_barrier(b);
  }
  head(b, pass);
  grid_barrier(b);
  sample(b, pass);
}

#include "lib/launch.cuh"
