// y = W x for one token, weights through buffers in shared memory: copied by the warps that use them, or by producers.
#pragma once
#include "one_token.cuh"

/** What waves are counted by: without buffers nothing of this is called, but all of it is compiled. */
constexpr int kRing = kBuffers > 0 ? kBuffers : 1;

/** Begins the copies of wave `step` of a warp: its waves are counted over all of its turns. By one warp. */
template <int K, int Parts>
DEVICE void copy_wave(Block& b, const Matrix* w, Range rows, int warp, int step, int buffer) {
  using C = RowCut<K, Parts>;
  static_assert(C::rows * Parts * C::wave <= kBufferLoads, "a buffer holds a wave");
  const int group = warp / C::slices, slice = warp % C::slices, n = rows.end - rows.begin;
  const int start = step % C::waves * C::wave, row = rows.begin + dealt(n, group, C::groups) + step / C::waves * C::rows;
  const int taken = max(0, min(C::rows, rows.begin + dealt(n, group + 1, C::groups) - row));
  const Matrix* const first = w + size_t(row) * Parts * padded(K) + (slice * C::slice + start) * C::span + lane() * kLoadElements;
#pragma unroll
  for (int i = 0; i < C::rows * Parts; ++i)
#pragma unroll
    for (int c = 0; c < C::wave; ++c)
      if (C::wanted(i, start + c, slice, lane(), taken))
        copy_weights(buffered(b, buffer, warp, i * C::wave + c), first + i * padded(K) + c * C::span);
}

/** A producer's part: the waves of every kProducerWarps-th warp, in the order in which they are used. */
template <int K, int Parts>
DEVICE void produce(Block& b, const Matrix* w, Range rows, int steps, int producer) {
  for (int step = 0; step < steps; ++step) {
    const unsigned turn = b.handed + unsigned(step);
    const int buffer = int(turn % kRing);
    const unsigned parity = turn / kRing % 2;
    for (int warp = producer; warp < kComputeWarps; warp += kProducerWarps) {
      while (!mbarrier_try_wait(handover().empty + warp * kBuffers + buffer, parity ^ 1)) {
      }
      copy_wave<K, Parts>(b, w, rows, warp, step, buffer);
      mbarrier_arrive_copied(handover().full + warp * kBuffers + buffer);
    }
  }
}

/** The part of a warp that multiplies. */
template <int K, int Parts, class Input, class Epilogue>
DEVICE void consume(Block& b, const Input& input, const Matrix* w, Range rows, int turns, int warp, Epilogue& epilogue) {
  using C = RowCut<K, Parts>;
  const int group = warp / C::slices, slice = warp % C::slices, n = rows.end - rows.begin, steps = turns * C::waves;
  const int end = rows.begin + dealt(n, group + 1, C::groups);
  float* const sums = shared_sums();
  int row = rows.begin + dealt(n, group, C::groups), parity = 0, step = 0;
  if constexpr (kProducerWarps == 0) {
    for (int ahead = 0; ahead < kBuffers - 1; ++ahead) {
      if (ahead < steps) copy_wave<K, Parts>(b, w, rows, warp, ahead, ahead);
      end_copies();
    }
  }
  for (int turn = 0; turn < turns; ++turn, row += C::rows) {
    const int taken = max(0, min(C::rows, end - row));
    float sum[C::values];
#pragma unroll
    for (int i = 0; i < C::values; ++i) sum[i] = 0;
#pragma unroll
    for (int start = 0; start < C::slice; start += C::wave, ++step) {
      const unsigned handed = kProducerWarps > 0 ? b.handed + unsigned(step) : unsigned(step);
      const int buffer = int(handed % kRing);
      if constexpr (kProducerWarps == 0) {
        // A lane reads only what it copied itself: no other thread is waited for.
        const int ahead = step + kBuffers - 1;
        if (ahead < steps) copy_wave<K, Parts>(b, w, rows, warp, ahead, ahead % kRing);
        end_copies();
        wait_copies<kBuffers - 1>();
      } else {
        while (!mbarrier_try_wait(handover().full + warp * kBuffers + buffer, handed / kRing % 2)) {
        }
      }
      add_wave<K, Parts>(sum, input, start, slice, lane(), taken,
                         [&](int i, int c) -> const Load& { return *buffered(b, buffer, warp, i * C::wave + c); });
      if constexpr (kProducerWarps > 0) {
        __syncwarp();
        if (lane() == 0) mbarrier_arrive(handover().empty + warp * kBuffers + buffer);
      }
    }
    finish_rows<K, Parts>(sum, sums + (parity * kWarps + group * C::slices) * 16, group, slice, lane(), row, taken, epilogue);
    parity ^= 1;
  }
}

/** The same sums in the same order as matmul_one makes with as many warps that multiply. */
template <int K, int Parts, class Input, class Epilogue>
DEVICE void matmul_buffered(Block& b, const Input& input, const Matrix* w, Range rows, Epilogue& epilogue) {
  using C = RowCut<K, Parts>;
  const int warp = opaque(int(threadIdx.x)) / 32;
  const int turns = divide_up(divide_up(rows.end - rows.begin, C::groups), C::rows);
  __syncthreads();  // the sums of the matmul before have been read; before the first one: the mbarriers are there
  if constexpr (kProducerWarps > 0) {
    if (warp >= kComputeWarps)
      produce<K, Parts>(b, w, rows, turns * C::waves, warp - kComputeWarps);
    else
      consume<K, Parts>(b, input, w, rows, turns, warp, epilogue);
    b.handed += unsigned(turns * C::waves);
  } else {
    consume<K, Parts>(b, input, w, rows, turns, warp, epilogue);
  }
}
