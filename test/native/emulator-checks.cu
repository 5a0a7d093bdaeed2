// What the emulator makes of CUDA, compared with plain sums; and kernels with one fault each, which it must not let pass.
// Without an argument all checks, a line of JSON each; with the name of a fault what the launch says.
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#define DEVICE __device__ __forceinline__

DEVICE uint32_t shared_address(const void* p) { return uint32_t(__cvta_generic_to_shared(p)); }
DEVICE int lane() { return int(threadIdx.x) & 31; }

// ---- matrices

DEVICE void load4(uint32_t (&v)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
               : "r"(shared_address(row))
               : "memory");
}

DEVICE void load2_transposed(uint32_t (&v)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];" : "=r"(v[0]), "=r"(v[1]) : "r"(shared_address(row)) : "memory");
}

/** c [16][8] := a [16][16] times b [16][8], as programs for tensor cores usually do it. */
__global__ void multiply(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c) {
  __shared__ __align__(16) __nv_bfloat16 left[16][16], right[16][8];
  for (int i = lane(); i < 256; i += 32) left[i / 16][i % 16] = a[i];
  for (int i = lane(); i < 128; i += 32) right[i / 8][i % 8] = b[i];
  __syncwarp();
  uint32_t x[4], y[2];
  load4(x, &left[lane() % 16][lane() / 16 * 8]);
  load2_transposed(y, &right[lane() % 16][0]);
  float sum[4] = {};
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
               : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
  for (int i = 0; i < 4; ++i) c[(lane() / 4 + i / 2 * 8) * 8 + lane() % 4 * 2 + i % 2] = sum[i];
}

/** What each lane's registers are: rows and columns of a [16][16] that holds 16 r + c, by ldmatrix. */
__global__ void fragments(int* rows_and_columns) {
  __shared__ __align__(16) uint16_t left[16][16];
  for (int i = lane(); i < 256; i += 32) left[i / 16][i % 16] = uint16_t(i);
  __syncwarp();
  uint32_t x[4];
  load4(x, &left[lane() % 16][lane() / 16 * 8]);
  for (int i = 0; i < 8; ++i) rows_and_columns[lane() * 8 + i] = int(x[i / 2] >> i % 2 * 16 & 0xffff);
}

// ---- warps

/** Of each lane: index, up, down and xor in segments of 8, and a vote. */
__global__ void shuffles(int* out) {
  const int x = 100 + lane();
  int* const mine = out + lane() * 5;
  mine[0] = __shfl_sync(~0u, x, 11, 8);
  mine[1] = __shfl_up_sync(~0u, x, 3, 8);
  mine[2] = __shfl_down_sync(~0u, x, 3, 8);
  mine[3] = __shfl_xor_sync(~0u, x, 5);
  mine[4] = int(__ballot_sync(~0u, lane() % 3 == 0));
}

// ---- copies

constexpr int kSteps = 12, kStages = 3;

/** Sums of what a warp copies through three buffers; Left: groups that it leaves under way. */
template <int Left>
__global__ void pipeline(const float* from, float* sums) {
  __shared__ __align__(16) float buffers[kStages][128];
  const auto copy = [&](int step) {
    if (step < kSteps)
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(&buffers[step % kStages][lane() * 4])),
                   "l"(__cvta_generic_to_global(from + step * 128 + lane() * 4))
                   : "memory");
    asm volatile("cp.async.commit_group;" ::: "memory");
  };
  copy(0), copy(1);
  float sum = 0;
  for (int step = 0; step < kSteps; ++step) {
    asm volatile("cp.async.wait_group %0;" ::"n"(Left) : "memory");
    __syncwarp();
    for (int i = 0; i < 4; ++i) sum += buffers[step % kStages][(lane() * 4 + i + 64) % 128];
    __syncwarp();
    copy(step + 2);
  }
  sums[lane()] = sum;
}

DEVICE bool is_past(uint64_t* barrier, unsigned parity) {
  uint32_t past;
  asm volatile("{\n\t.reg .pred p;\n\tmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n\tselp.u32 %0, 1, 0, p;\n\t}"
               : "=r"(past)
               : "r"(shared_address(barrier)), "r"(parity)
               : "memory");
  return past != 0;
}

/** Thread 0 has the copy engine bring `from` piece by piece, the other warp adds it up. With Expect false it forgets the bytes. */
template <bool Expect>
__global__ void bulk(const float* from, float* sums) {
  extern __shared__ __align__(128) float piece[];
  __shared__ uint64_t full, empty;
  if (threadIdx.x == 0) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(&full)), "r"(1) : "memory");
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(&empty)), "r"(32) : "memory");
  }
  __syncthreads();
  float sum = 0;
  for (int step = 0; step < kSteps; ++step) {
    const unsigned parity = step % 2;
    if (threadIdx.x == 0) {
      while (!is_past(&empty, parity ^ 1)) {
      }
      if (Expect)
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&full)), "r"(512) : "memory");
      else
        asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&full)) : "memory");
      asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_address(piece)),
                   "l"(__cvta_generic_to_global(from + step * 128)), "r"(512), "r"(shared_address(&full))
                   : "memory");
    } else if (threadIdx.x >= 32) {
      while (!is_past(&full, parity)) {
      }
      for (int i = 0; i < 4; ++i) sum += piece[(lane() * 4 + i + 64) % 128];
      asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(shared_address(&empty)) : "memory");
    }
  }
  if (threadIdx.x >= 32) sums[lane()] = sum;
}

/** Copies of a warp that arrive at a barrier themselves. */
__global__ void copies_arrive(const float* from, float* sums) {
  __shared__ __align__(16) float piece[128];
  __shared__ uint64_t full;
  if (threadIdx.x == 0) asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(&full)), "r"(32) : "memory");
  __syncthreads();
  if (threadIdx.x < 32) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 16;" ::"r"(shared_address(piece + lane() * 4)), "l"(from + lane() * 4) : "memory");
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared_address(&full)) : "memory");
    return;
  }
  while (!is_past(&full, 0)) {
  }
  float sum = 0;
  for (int i = 0; i < 4; ++i) sum += piece[(lane() * 4 + i + 64) % 128];
  sums[lane()] = sum;
}

// ---- blocks

/** Each thread reads what one of another warp has written; Synced false: without waiting for it. */
template <bool Synced>
__global__ void exchange(float* out) {
  __shared__ float values[256];
  values[threadIdx.x] = float(threadIdx.x);
  if (Synced) __syncthreads();
  out[threadIdx.x] = values[255 - threadIdx.x];
}

/** The second warp waits at a barrier for 64 threads; the first only comes if Both. */
template <bool Both>
__global__ void named() {
  if (Both || threadIdx.x >= 32) asm volatile("bar.sync %0, %1;" ::"r"(1), "r"(64) : "memory");
}

struct Flags {
  volatile int set;
};

/** All but one thread look at a flag until it is set. */
template <bool Set>
__global__ void flagged(int* out) {
  __shared__ Flags flags;
  if (threadIdx.x == 0) flags.set = 0;
  __syncthreads();
  if (threadIdx.x == 40) {
    if (Set) flags.set = 7;
  } else {
    while (flags.set == 0) {
    }
  }
  out[threadIdx.x] = threadIdx.x == 40 ? 7 : flags.set;
}

__global__ void outside_shared() {
  extern __shared__ float dynamic[];
  unsigned v;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(shared_address(dynamic) + 512) : "memory");
}

__global__ void past_shared() {
  extern __shared__ float dynamic[];
  dynamic[130] = 1;
}

__global__ void past_page() {
  extern __shared__ float dynamic[];
  dynamic[4096] = 1;
}

__global__ void outside_global(const float* from, float* to) {
  const float* const at = from + (1 << 20);
  asm volatile("ld.global.f32 %0, [%1];" : "=f"(*to) : "l"(__cvta_generic_to_global(at)));
}

__global__ void unknown_opcode() { asm volatile("brkpt;" ::: "memory"); }

// ---- the host

template <class T>
struct Buffer {
  T* at = nullptr;
  explicit Buffer(size_t count) { cudaMalloc(reinterpret_cast<void**>(&at), count * sizeof(T)); }
  ~Buffer() { cudaFree(at); }
  operator T*() const { return at; }
};

void tell(const char* check, size_t compared, double worst) { printf("{\"check\": \"%s\", \"compared\": %zu, \"worst\": %g}\n", check, compared, worst); }

template <class T>
void compare(const char* check, const T* got, const std::vector<T>& expected, double most = 1e-9) {
  double worst = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double error = std::fabs(double(got[i]) - double(expected[i])) / most;
    if (!(error <= worst)) worst = error;
  }
  tell(check, expected.size(), worst);
}

size_t mappings() {
  std::ifstream maps("/proc/self/maps");
  return size_t(std::count(std::istreambuf_iterator<char>(maps), {}, '\n'));
}

int main(int, char** arguments) {
  const std::string fault = arguments[1] ? arguments[1] : "";
  const size_t mappings_before = mappings();
  cudaStream_t stream;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  const auto wait = [&] {
    const cudaError_t status = cudaStreamSynchronize(stream);
    if (status != cudaSuccess) printf("%s\n", cudaGetErrorString(status));
    return status == cudaSuccess;
  };
  Buffer<float> numbers(kSteps * 128), out(256);
  std::vector<float> sums(32), whole(32);
  for (int i = 0; i < kSteps * 128; ++i) numbers[i] = float((i * 37 + 11) % 101);
  for (int l = 0; l < 32; ++l)
    for (int step = 0; step < kSteps; ++step)
      for (int i = 0; i < 4; ++i) {
        const float x = numbers[step * 128 + (l * 4 + i + 64) % 128];
        sums[l] += x;
        if (step == 0) whole[l] += x;
      }
  std::vector<float> turned(256);
  for (int i = 0; i < 256; ++i) turned[i] = float(255 - i);
  Buffer<int> integers(256);

  if (fault == "wait_group") pipeline<2><<<1, 32, 0, stream>>>(numbers.at, out.at), wait() && (compare("", out.at, sums), true);
  if (fault == "expect_tx") bulk<false><<<1, 64, 512, stream>>>(numbers.at, out.at), wait() && (compare("", out.at, sums), true);
  if (fault == "syncthreads") exchange<false><<<1, 256, 0, stream>>>(out.at), wait() && (compare("", out.at, turned), true);
  if (fault == "barrier") named<false><<<2, 64, 0, stream>>>(), wait();
  if (fault == "flag") flagged<false><<<1, 64, 0, stream>>>(integers.at), wait();
  if (fault == "outside_shared") outside_shared<<<1, 32, 512, stream>>>(), wait();
  if (fault == "past_shared") past_shared<<<1, 32, 512, stream>>>(), wait();
  if (fault == "past_page") past_page<<<1, 32, 512, stream>>>(), wait();
  if (fault == "outside_global") outside_global<<<1, 32, 0, stream>>>(numbers.at, out.at), wait();
  if (fault == "opcode") unknown_opcode<<<1, 32, 0, stream>>>(), wait();
  if (!fault.empty()) return 0;

  Buffer<__nv_bfloat16> a(256), b(128);
  std::vector<float> product(128);
  for (int i = 0; i < 256; ++i) a[i] = __float2bfloat16(float((i * 29 + 3) % 17 - 8) / 4);
  for (int i = 0; i < 128; ++i) b[i] = __float2bfloat16(float((i * 23 + 5) % 19 - 9) / 8);
  for (int i = 0; i < 128; ++i)
    for (int k = 0; k < 16; ++k) product[i] += __bfloat162float(a[i / 8 * 16 + k]) * __bfloat162float(b[k * 8 + i % 8]);
  multiply<<<1, 32, 0, stream>>>(a.at, b.at, out.at);
  if (wait()) compare("mma of what ldmatrix brings", out.at, product, 1e-5);

  // PTX ISA, matrix fragments for mma.m16n8k16: a0, a1 | a2, a3 | a4, a5 | a6, a7.
  std::vector<int> places;
  for (int l = 0; l < 32; ++l)
    for (int i = 0; i < 8; ++i) {
      const int row = l / 4 + ((i < 2 || (4 <= i && i < 6)) ? 0 : 8), column = l % 4 * 2 + (i & 1) + (i >= 4 ? 8 : 0);
      places.push_back(row * 16 + column);
    }
  fragments<<<1, 32, 0, stream>>>(integers.at);
  if (wait()) compare("the registers of a fragment", integers.at, places);

  std::vector<int> moved;
  for (int l = 0; l < 32; ++l) {
    const int in = l % 8;
    moved.insert(moved.end(), {100 + l - in + 3, 100 + (in < 3 ? l : l - 3), 100 + (in > 4 ? l : l + 3), 100 + (l ^ 5), 0x49249249});
  }
  shuffles<<<1, 32, 0, stream>>>(integers.at);
  if (wait()) compare("shuffles and a vote", integers.at, moved);

  pipeline<1><<<1, 32, 0, stream>>>(numbers.at, out.at);
  if (wait()) compare("cp.async in groups", out.at, sums);
  bulk<true><<<1, 64, 512, stream>>>(numbers.at, out.at);
  if (wait()) compare("bulk copies and mbarriers", out.at, sums);
  copies_arrive<<<1, 64, 0, stream>>>(numbers.at, out.at);
  if (wait()) compare("copies that arrive", out.at, whole);
  exchange<true><<<1, 256, 0, stream>>>(out.at);
  if (wait()) compare("__syncthreads", out.at, turned);
  named<true><<<2, 64, 0, stream>>>();
  if (wait()) tell("a barrier of two warps", 1, 0);
  flagged<true><<<1, 64, 0, stream>>>(integers.at);
  if (wait()) compare("a volatile flag", integers.at, std::vector<int>(64, 7));
  cudaStreamDestroy(stream);
  // Its launches had up to 256 threads, each with a stack.
  tell("mappings that a stream leaves", 1, (double(mappings()) - double(mappings_before)) / 256);
  return 0;
}
