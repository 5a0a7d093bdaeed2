// What a GPU can do, measured without a model: each line of the output is one figure as JSON, as lab/calibrate reads it.
//     {"term":"barrier","x":0,"value":1.08,"least":1.07,"most":1.10}
// Times are us and bandwidths GB/s; x is what a figure depends on (values of an exchange, loads under way), 0 where it depends on nothing.
#include <cooperative_groups.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

constexpr int kRuns = 9;        // of a figure, after one that is thrown away
constexpr int kTurns = 2000;    // barriers or exchanges of a launch
constexpr int kLaunches = 200;  // of which the mean is taken
constexpr size_t kBytes = size_t{1} << 30;

void check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  fprintf(stderr, "%s: %s\n", call, cudaGetErrorString(status));
  exit(1);
}
#define CUDA(call) check(call, #call)

__device__ __forceinline__ unsigned load_acquire(const unsigned* word) {
  unsigned v;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(word) : "memory");
  return v;
}

/** Reads all bytes once, `Together` loads of 16 bytes under way in each thread. */
template <int Together>
__global__ void read_all(const uint4* from, size_t count, uint4* out) {
  uint4 sum = {};
  const size_t step = size_t(gridDim.x) * blockDim.x;
  for (size_t i = blockIdx.x * size_t(blockDim.x) + threadIdx.x; i + (Together - 1) * step < count; i += Together * step) {
    uint4 v[Together];
#pragma unroll
    for (int k = 0; k < Together; ++k)
      asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                   : "=r"(v[k].x), "=r"(v[k].y), "=r"(v[k].z), "=r"(v[k].w)
                   : "l"(from + i + k * step));
#pragma unroll
    for (int k = 0; k < Together; ++k) sum.x ^= v[k].x, sum.y ^= v[k].y, sum.z ^= v[k].z, sum.w ^= v[k].w;
  }
  if (sum.x == 0x12345 && sum.y == 1) *out = sum;
}

/** Each address is read at the one before: what one load takes that waits for the last. Goes on where the launch before ended. */
__global__ void chase(const unsigned* next, int steps, unsigned* out) {
  unsigned at = *out;
  for (int i = 0; i < steps; ++i) at = __ldcg(next + at);
  *out = at;
}

/** All blocks meet at one counter. */
__global__ void meet_atomic(unsigned* arrivals, int turns) {
  for (int turn = 1; turn <= turns; ++turn) {
    __syncthreads();
    if (threadIdx.x == 0) {
      asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(arrivals) : "memory");
      while (load_acquire(arrivals) < unsigned(turn) * gridDim.x) {
      }
    }
    __syncthreads();
  }
}

__global__ void meet_grid(int turns) {
  const auto grid = cooperative_groups::this_grid();
  for (int turn = 0; turn < turns; ++turn) grid.sync();
}

/** Values are dealt to the blocks that store them, two a word, with the turn beside them; every block polls all. */
__global__ void exchange(uint2* words, int count, int turns, unsigned* out) {
  extern __shared__ unsigned seen[];
  unsigned mine = threadIdx.x;
  for (int turn = 1; turn <= turns; ++turn) {
    uint2* const at = words + (turn & 1) * count;
    for (int i = blockIdx.x + threadIdx.x * gridDim.x; i < count; i += gridDim.x * blockDim.x)
      asm volatile("st.relaxed.gpu.global.v2.u32 [%0], {%1, %2};" ::"l"(at + i), "r"(mine), "r"(unsigned(turn)) : "memory");
    for (int i = threadIdx.x * 2; i < count; i += blockDim.x * 2) {
      uint4 v;
      do {
        asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                     : "l"(at + i)
                     : "memory");
      } while (v.y != unsigned(turn) || v.w != unsigned(turn));
      seen[i] = v.x, seen[i + 1] = v.z;
    }
    __syncthreads();
    mine = seen[(threadIdx.x * 7) % count];
    __syncthreads();
  }
  if (threadIdx.x == 0) out[blockIdx.x] = mine;
}

__global__ void nothing() {}

struct Clock {
  cudaEvent_t from, to;
  Clock() {
    CUDA(cudaEventCreate(&from));
    CUDA(cudaEventCreate(&to));
  }
  void start() { CUDA(cudaEventRecord(from)); }
  /** [us] */
  double stop() {
    float millis;
    CUDA(cudaEventRecord(to));
    CUDA(cudaEventSynchronize(to));
    CUDA(cudaEventElapsedTime(&millis, from, to));
    return millis * 1e3;
  }
};

/** Prints the median of the runs; of: a run's time [us] as the figure. */
template <class Run, class Of>
void figure(const char* term, int x, Run&& run, Of&& of) {
  Clock clock;
  std::vector<double> values;
  for (int i = -1; i < kRuns; ++i) {
    clock.start();
    run();
    const double micros = clock.stop();
    if (i >= 0) values.push_back(of(micros));
  }
  CUDA(cudaGetLastError());
  std::sort(values.begin(), values.end());
  printf("{\"term\":\"%s\",\"x\":%d,\"value\":%.5g,\"least\":%.5g,\"most\":%.5g}\n", term, x, values[kRuns / 2], values.front(),
         values.back());
  fflush(stdout);
}

/** Bytes that stay in L2, read several times in one launch. */
__global__ void read_again(const uint4* from, size_t count, int turns, uint4* out) {
  uint4 sum = {};
  const size_t step = size_t(gridDim.x) * blockDim.x;
  for (int turn = 0; turn < turns; ++turn)
#pragma unroll 8
    for (size_t i = blockIdx.x * size_t(blockDim.x) + threadIdx.x; i < count; i += step) {
      const uint4 v = __ldcg(from + i);
      sum.x ^= v.x, sum.y ^= v.y, sum.z ^= v.z, sum.w ^= v.w;
    }
  if (sum.x == 0x12345 && sum.y == 1) *out = sum;
}

template <int Together>
void read_with(const uint4* memory, uint4* out, int blocks) {
  figure(
      "bandwidth", Together, [&] { read_all<Together><<<blocks, 512>>>(memory, kBytes / 16, out); },
      [](double micros) { return kBytes / micros / 1e3; });
}

}  // namespace

int main(int argc, char** argv) {
  CUDA(cudaSetDevice(argc > 1 ? atoi(argv[1]) : 0));
  cudaDeviceProp gpu;
  CUDA(cudaGetDeviceProperties(&gpu, argc > 1 ? atoi(argv[1]) : 0));
  const int sms = gpu.multiProcessorCount;
  char* memory;
  unsigned* words;
  CUDA(cudaMalloc(&memory, kBytes));
  CUDA(cudaMemset(memory, 1, kBytes));
  CUDA(cudaMalloc(&words, 1 << 20));
  const auto from = reinterpret_cast<const uint4*>(memory);
  const auto out = reinterpret_cast<uint4*>(words);

  // One block of 16 warps a multiprocessor, as a kernel with barriers has it.
  read_with<1>(from, out, sms);
  read_with<2>(from, out, sms);
  read_with<4>(from, out, sms);
  read_with<8>(from, out, sms);
  read_with<12>(from, out, sms);

  for (int mebibytes = 1; mebibytes <= 128; mebibytes *= 2) {
    const size_t bytes = size_t(mebibytes) << 20;
    const int turns = 512 / mebibytes;
    figure(
        "cacheBandwidth", mebibytes, [&] { read_again<<<sms, 512>>>(from, bytes / 16, turns, out); },
        [&](double micros) { return double(bytes) * turns / micros / 1e3; });
  }

  // 1 MiB stays in L2, 1 GiB does not.
  for (const size_t span : {size_t{1} << 20, kBytes}) {
    const size_t count = span / sizeof(unsigned), lines = count / 32;
    std::vector<unsigned> order(count);
    for (size_t i = 0; i < lines; ++i) order[i * 32] = unsigned((i * 7917 + 12345) % lines * 32);  // one circle through all lines
    CUDA(cudaMemcpy(memory, order.data(), span, cudaMemcpyHostToDevice));
    CUDA(cudaMemset(words, 0, 4));
    constexpr int kSteps = 20000;
    figure(
        span == kBytes ? "latencyMemory" : "latencyL2", 0,
        [&] { chase<<<1, 1>>>(reinterpret_cast<const unsigned*>(memory), kSteps, words); }, [](double micros) { return micros / kSteps; });
  }

  figure(
      "barrier", 0,
      [&] {
        CUDA(cudaMemsetAsync(words, 0, 4));
        meet_atomic<<<sms, 512>>>(words, kTurns);
      },
      [](double micros) { return micros / kTurns; });
  int turns = kTurns;
  void* arguments[] = {&turns};
  figure(
      "gridSync", 0, [&] { CUDA(cudaLaunchCooperativeKernel(reinterpret_cast<const void*>(meet_grid), dim3(sms), dim3(512), arguments, 0, 0)); },
      [](double micros) { return micros / kTurns; });

  for (const int values : {512, 1024, 2048, 4096}) {
    const int count = values / 2;
    figure(
        "exchange", values,
        [&] {
          CUDA(cudaMemsetAsync(words, 0, 1 << 20));
          exchange<<<sms, 256, count * 4>>>(reinterpret_cast<uint2*>(words), count, kTurns, words + (1 << 17));
        },
        [](double micros) { return micros / kTurns; });
  }

  figure(
      "launch", 0,
      [&] {
        for (int i = 0; i < kLaunches; ++i) nothing<<<sms, 512>>>();
      },
      [](double micros) { return micros / kLaunches; });
  return 0;
}
