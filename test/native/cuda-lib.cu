// The CUDA kernel library against double loops on odd sizes, and how long its functions take. Needs a GPU; prints one line a check.
//   npm run headers
//   nvcc -std=c++17 -O3 -gencode=arch=compute_90a,code=sm_90a -I templates -I generated/headers/cuda test/native/cuda-lib.cu -o cuda-lib && ./cuda-lib
// Other storage types and pass sizes: -DTEST_WEIGHT=fp16 or float, -DTEST_TOKENS=1. Other ways of the weights:
// -DTEST_WARPS=8 -DTEST_LOAD_BITS=64 -DTEST_IN_FLIGHT=4 -DTEST_BUFFERS=2 -DTEST_PRODUCERS=2.
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "abi.h"
#include "cuda/lib/types.cuh"

#ifndef TEST_WEIGHT
#define TEST_WEIGHT bf16
#endif
#ifndef TEST_TOKENS
#define TEST_TOKENS 8
#endif
#ifndef TEST_WARPS
#define TEST_WARPS 16
#endif
#ifndef TEST_LOAD_BITS
#define TEST_LOAD_BITS 128
#endif
#ifndef TEST_IN_FLIGHT
#define TEST_IN_FLIGHT 12
#endif
#ifndef TEST_BUFFERS
#define TEST_BUFFERS 0
#endif
#ifndef TEST_PRODUCERS
#define TEST_PRODUCERS 0
#endif
using Matrix = TEST_WEIGHT;
using Cache = TEST_WEIGHT;
constexpr int kPassTokens = TEST_TOKENS;
constexpr int kVocab = 151936;
constexpr int kThreads = 32 * TEST_WARPS, kWarps = kThreads / 32, kProducerThreads = 0;  // of a block
constexpr int kLoadBits = TEST_LOAD_BITS, kInFlight = TEST_IN_FLIGHT, kBuffers = TEST_BUFFERS;
constexpr int kProducerWarps = TEST_PRODUCERS;
constexpr int kRingBytes = kBuffers * (kWarps - kProducerWarps) * (kInFlight < 2 ? 2 : kInFlight) * 32 * kLoadBits / 8;
constexpr bool kGridSync = false;
constexpr int kScratchFloats = 8 * 4864;  // the largest that a check below asks for
constexpr float kAttnScale = 0.125f;

#include "cuda/lib/lib.cuh"

// ---- the maps from work to warps, checked where they are compiled

/** Every chunk of a row belongs to one slice, every row of n to one group. */
template <int K, int Parts>
constexpr bool covers_once() {
  using C = RowCut<K, Parts>;
  for (int chunk = 0; chunk < C::chunks; ++chunk) {
    int owners = 0;
    for (int slice = 0; slice < C::slices; ++slice)
      for (int start = 0; start < C::slice; start += C::wave)
        for (int c = start; c < start + C::wave && c < C::slice; ++c) owners += slice * C::slice + c == chunk;
    if (owners != 1) return false;
  }
  for (int n : {0, 1, 7, 8, 31, 96, 1151}) {
    int next = 0;
    for (int group = 0; group < C::groups; ++group) {
      if (dealt(n, group, C::groups) != next) return false;
      next = dealt(n, group + 1, C::groups);
    }
    if (next != n) return false;
  }
  return true;
}

/** Every slot of the input belongs to one element. */
template <int K>
constexpr bool slots_differ() {
  bool seen[padded(K)] = {};
  for (int k = 0; k < padded(K); ++k) {
    const int slot = input_slot<K>(k);
    if (slot < 0 || slot >= padded(K) || seen[slot]) return false;
    seen[slot] = true;
  }
  return true;
}

static_assert(covers_once<20, 1>() && covers_once<100, 1>() && covers_once<896, 2>() && covers_once<1024, 1>());
static_assert(covers_once<1024, 2>() && covers_once<1024, 3>() && covers_once<2048, 1>() && covers_once<3072, 1>());
static_assert(covers_once<4864, 1>() && covers_once<8192, 1>() && covers_once<8192, 2>() && covers_once<14336, 1>());
static_assert(slots_differ<20>() && slots_differ<100>() && slots_differ<896>() && slots_differ<1024>() && slots_differ<3072>());

// ---- the host's side

#define CUDA_CHECK(call)                                                                          \
  do {                                                                                            \
    const cudaError_t status_ = (call);                                                           \
    if (status_ != cudaSuccess) {                                                                 \
      printf("%s:%d %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(status_));           \
      exit(2);                                                                                    \
    }                                                                                             \
  } while (0)

bool overall = true;

void report(bool okay, const char* format, ...) __attribute__((format(printf, 2, 3)));
void report(bool okay, const char* format, ...) {
  char text[256];
  va_list values;
  va_start(values, format);
  vsnprintf(text, sizeof text, format, values);
  va_end(values);
  printf("%s %s\n", okay ? "ok  " : "FAIL", text);
  overall = overall && okay;
}

uint64_t random_state = 1;
uint32_t random_bits() {
  random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
  return uint32_t(random_state >> 33) << 1;
}
/** Uniform in [-1, 1). */
float random_float() { return float(int32_t(random_bits())) * 0x1p-31f; }

float host_float(float x) { return x; }
float host_float(bf16 x) { return __bfloat162float(x); }
float host_float(fp16 x) { return __half2float(x); }
void host_round(float* out, float x) { *out = x; }
void host_round(bf16* out, float x) { *out = __float2bfloat16_rn(x); }
void host_round(fp16* out, float x) { *out = __float2half_rn(x); }

template <class T>
struct Device {
  T* data = nullptr;
  size_t n;
  explicit Device(size_t count) : n(count) {
    CUDA_CHECK(cudaMalloc(reinterpret_cast<void**>(&data), std::max<size_t>(n, 1) * sizeof(T)));
    CUDA_CHECK(cudaMemset(data, 0, n * sizeof(T)));
  }
  explicit Device(const std::vector<T>& host) : Device(host.size()) { put(host); }
  Device(const Device&) = delete;
  ~Device() { cudaFree(data); }
  void put(const std::vector<T>& host) { CUDA_CHECK(cudaMemcpy(data, host.data(), n * sizeof(T), cudaMemcpyHostToDevice)); }
  std::vector<T> get() const {
    std::vector<T> host(n);
    CUDA_CHECK(cudaMemcpy(host.data(), data, n * sizeof(T), cudaMemcpyDeviceToHost));
    return host;
  }
};

std::vector<float> random_floats(size_t n, float scale) {
  std::vector<float> v(n);
  for (float& x : v) x = random_float() * scale;
  return v;
}

/** [rows][padded(K)], zero behind K. */
std::vector<Matrix> random_matrix(int rows, int k, float scale) {
  std::vector<Matrix> w(size_t(rows) * padded(k));
  for (int row = 0; row < rows; ++row)
    for (int i = 0; i < padded(k); ++i) host_round(&w[size_t(row) * padded(k) + i], i < k ? random_float() * scale : 0.0f);
  return w;
}

/** Runs stage(b) on all blocks of a cooperative launch. */
template <class Stage>
__global__ void __launch_bounds__(kThreads, 1) run_stage(const __grid_constant__ Stage stage, unsigned* barrier) {
  extern __shared__ __align__(128) float scratch[];
  Block b = make_block(scratch, barrier);
  stage(b);
}

int multiprocessors = 0;
unsigned* barrier_words = nullptr;

template <class Stage>
void launch(const Stage& stage, int scratch_floats, int blocks = 0) {
  const void* const kernel = reinterpret_cast<const void*>(run_stage<Stage>);
  // The buffers of weights lie behind the whole scratch.
  const size_t bytes = size_t(kRingBytes > 0 ? kScratchFloats : scratch_floats) * sizeof(float) + kRingBytes;
  CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes)));
  void* arguments[] = {const_cast<Stage*>(&stage), &barrier_words};
  CUDA_CHECK(cudaLaunchCooperativeKernel(kernel, dim3(blocks ? blocks : multiprocessors), dim3(kThreads), arguments, bytes, nullptr));
}

template <class Stage>
void run(const Stage& stage, int scratch_floats, int blocks = 0) {
  launch(stage, scratch_floats, blocks);
  CUDA_CHECK(cudaDeviceSynchronize());
}

// ---- matmul and its inputs

enum class From { gather, norm, memory };

template <int K, int Parts>
struct MatmulStage {
  From from;
  const float *src, *weight;
  const Matrix* w;
  int rows, tokens;
  float* out;  // [tokens][rows][Parts]
  int* calls;  // [tokens][rows]
  __device__ void operator()(Block& b) const {
    const auto store = [&](int row, int token, const float(&y)[Parts]) {
      atomicAdd(calls + token * rows + row, 1);
      for (int p = 0; p < Parts; ++p) out[(token * rows + row) * Parts + p] = y[p];
    };
    if (from == From::memory) {
      matmul_from<K, Parts>(b, src, w, block_range(b, rows), tokens, store);
      return;
    }
    if (from == From::gather)
      gather_input<K>(b, src, tokens);
    else
      norm_input<K>(b, src, weight, 1e-6f, tokens);
    matmul<K, Parts>(b, w, block_range(b, rows), tokens, store);
  }
};

/** Relative to the largest |product| sum: float32 sums, and 16-bit pairs as inputs of the tensor cores. */
constexpr double kMatmulTolerance = 4e-5;

template <int K, int Parts>
void check_matmul(int rows, From from) {
  const std::vector<float> src = random_floats(size_t(kPassTokens) * K, 2), weight = random_floats(K, 1);
  const std::vector<Matrix> w = random_matrix(rows * Parts, K, 1 / std::sqrt(float(K)));
  Device<float> d_src(src), d_weight(weight), out(size_t(kPassTokens) * rows * Parts);
  Device<Matrix> d_w(w);
  for (int tokens = 1; tokens <= kPassTokens; tokens = tokens < 3 ? tokens + 1 : tokens + 5) {
    std::vector<float> first;
    double worst = 0;
    bool once = true, same = true;
    for (int blocks : {multiprocessors, 3}) {
      Device<int> calls(size_t(kPassTokens) * rows);
      CUDA_CHECK(cudaMemset(out.data, 0xff, out.n * sizeof(float)));
      run(MatmulStage<K, Parts>{from, d_src.data, d_weight.data, d_w.data, rows, tokens, out.data, calls.data},
          kPassTokens * padded(K), blocks);
      const std::vector<float> y = out.get();
      const std::vector<int> counted = calls.get();
      for (int i = 0; i < kPassTokens * rows; ++i) once = once && counted[i] == (i < tokens * rows ? 1 : 0);
      if (first.empty()) first = y;
      same = same && memcmp(first.data(), y.data(), size_t(tokens) * rows * Parts * sizeof(float)) == 0;
    }
    for (int token = 0; token < tokens; ++token) {
      double square = 0;
      for (int k = 0; k < K; ++k) square += double(src[token * K + k]) * src[token * K + k];
      const double factor = 1 / std::sqrt(square / K + 1e-6);
      for (int i = 0; i < rows * Parts; ++i) {
        double sum = 0, magnitude = 0;
        for (int k = 0; k < K; ++k) {
          const double x = src[token * K + k] * (from == From::norm ? factor * weight[k] : 1.0);
          const double product = x * host_float(w[size_t(i) * padded(K) + k]);
          sum += product, magnitude += product * product;
        }
        const double off = std::fabs(first[size_t(token) * rows * Parts + i] - sum) / std::sqrt(magnitude);
        worst = off <= worst ? worst : off;  // NaN counts
      }
    }
    report(once && same && worst < kMatmulTolerance, "matmul %s K=%d Parts=%d rows=%d tokens=%d: error %.2g, each row once: %d, any number of blocks: %d",
           from == From::gather ? "gather_input" : from == From::norm ? "norm_input" : "matmul_from", K, Parts, rows, tokens, worst, once, same);
  }
}

template <int K>
struct NormStage {
  const float *src, *weight;
  float* dst;
  int tokens;
  __device__ void operator()(Block& b) const {
    for (int token = b.index(); token < tokens; token += b.count()) norm<K>(b, dst + token * K, src + token * K, weight, 1e-6f);
  }
};

template <int K>
void check_norm() {
  const int tokens = 5;
  const std::vector<float> src = random_floats(size_t(tokens) * K, 3), weight = random_floats(K, 1);
  Device<float> d_src(src), d_weight(weight), dst(src.size());
  run(NormStage<K>{d_src.data, d_weight.data, dst.data, tokens}, 32, 2);
  const std::vector<float> y = dst.get();
  double worst = 0;
  for (int token = 0; token < tokens; ++token) {
    double square = 0;
    for (int k = 0; k < K; ++k) square += double(src[token * K + k]) * src[token * K + k];
    for (int k = 0; k < K; ++k) {
      const double off = std::fabs(y[token * K + k] - src[token * K + k] / std::sqrt(square / K + 1e-6) * weight[k]);
      worst = off <= worst ? worst : off;
    }
  }
  report(worst < 5e-6, "norm K=%d: error %.2g", K, worst);
}

// ---- attention

template <int D, int Group, int Splits>
struct AttendStage {
  const float* q;
  const Cache* cache;  // [KvHeads][context][2][D]
  float *partial, *merged;
  int heads, context, position, tokens, window;
  __device__ void operator()(Block& b) const {
    const int unseen = window == 0 || position < window ? 0 : position - window + 1, cached = position - unseen;
    const int stride = heads * Group * Splits * (D + 2);
    for (int unit = b.index(); unit < heads * Splits; unit += b.count()) {
      const int head = unit / Splits, split = unit % Splits;
      const int begin = unseen + int((long long)cached * split / Splits);
      const int end = split == Splits - 1 ? position + tokens : unseen + int((long long)cached * (split + 1) / Splits);
      attend<D, Group, Splits>(b, 0, q + head * Group * D, heads * Group * D, cache + size_t(head) * context * 2 * D,
                               partial + head * Group * Splits * (D + 2), stride, split, begin, end, position, tokens, window);
    }
    grid_barrier(b);
    for (int token = b.index(); token < tokens; token += b.count())
      for_warps(b, heads * Group, [&](int i) {
        merge<D, Splits>(b, merged + (token * heads * Group + i) * D, partial + token * stride + i * Splits * (D + 2));
      });
  }
};

/** The matmul input is made by merge_input, and read back by a matrix of ones and zeros. */
template <int D, int Heads, int Splits>
struct MergeStage {
  const float* partial;
  const Matrix* identity;
  float* out;  // [tokens][Heads * D]
  int tokens;
  __device__ void operator()(Block& b) const {
    constexpr int K = Heads * D;
    merge_input<K, D, Splits>(b, partial, tokens);
    matmul<K, 1>(b, identity, block_range(b, K), tokens, [&](int row, int token, const float(&y)[1]) { out[token * K + row] = y[0]; });
  }
};

template <int D, int Group, int Splits>
void check_attend(int position, int window = 0) {
  constexpr int kHeads = 2, K = kHeads * Group * D;
  for (int tokens : {1, 2, 5, 8}) {
    if (tokens > kPassTokens) break;
    const int context = position + tokens;
    const std::vector<float> q = random_floats(size_t(tokens) * K, 4);
    std::vector<Cache> cache(size_t(kHeads) * context * 2 * D);
    for (Cache& x : cache) host_round(&x, random_float());
    Device<float> d_q(q), partial(size_t(tokens) * kHeads * Group * Splits * (D + 2)), merged(q.size()), read(q.size());
    Device<Cache> d_cache(cache);
    constexpr int kFloats = attend_scratch<D, Group, kPassTokens>();
    run(AttendStage<D, Group, Splits>{d_q.data, d_cache.data, partial.data, merged.data, kHeads, context, position, tokens, window}, kFloats);
    std::vector<Matrix> identity(size_t(K) * padded(K));
    for (int row = 0; row < K; ++row)
      for (int k = 0; k < padded(K); ++k) host_round(&identity[size_t(row) * padded(K) + k], row == k ? 1.0f : 0.0f);
    Device<Matrix> d_identity(identity);
    run(MergeStage<D, kHeads * Group, Splits>{partial.data, d_identity.data, read.data, tokens}, kPassTokens * padded(K));
    const std::vector<float> y = merged.get(), z = read.get();
    double worst = 0, worst_input = 0;
    for (int token = 0; token < tokens; ++token)
      for (int head = 0; head < kHeads * Group; ++head) {
        const Cache* const rows = cache.data() + size_t(head / Group) * context * 2 * D;
        const float* const query = q.data() + (size_t(token) * kHeads * Group + head) * D;
        std::vector<double> score(position + token + 1), sum(D);
        double top = -1e300, mass = 0;
        const size_t first = window == 0 || position + token < window ? 0 : position + token - window + 1;
        for (size_t p = first; p < score.size(); ++p) {
          for (int d = 0; d < D; ++d) score[p] += double(query[d]) * host_float(rows[p * 2 * D + d]);
          top = std::max(top, score[p] *= kAttnScale);
        }
        for (size_t p = first; p < score.size(); ++p) {
          const double weight = std::exp(score[p] - top);
          mass += weight;
          for (int d = 0; d < D; ++d) sum[d] += weight * host_float(rows[p * 2 * D + D + d]);
        }
        for (int d = 0; d < D; ++d) {
          const size_t at = (size_t(token) * kHeads * Group + head) * D + d;
          const double off = std::fabs(y[at] - sum[d] / mass), off_input = std::fabs(z[at] - sum[d] / mass);
          worst = off <= worst ? worst : off;
          worst_input = off_input <= worst_input ? worst_input : off_input;
        }
      }
    report(worst < 2e-5 && worst_input < 4e-5, "attend D=%d Group=%d Splits=%d position=%d tokens=%d window=%d: error %.2g, merge_input %.2g", D, Group,
           Splits, position, tokens, window, worst, worst_input);
  }
}

// ---- one warp's work

template <int D>
struct HeadStage {
  const float *src, *weight, *row;
  float *normed, *turned;
  Cache* cache;
  __device__ void operator()(Block& b) const {
    for_warps(b, 3, [&](int i) {
      head_norm<D>(normed + i * D, src + i * D, weight, 1e-6f);
      rope<D>(turned + i * D, normed + i * D, row);
      append<D>(cache + i * 2 * D, turned + i * D, src + i * D);
    });
  }
};

template <int D>
void check_heads() {
  const std::vector<float> src = random_floats(3 * D, 2), weight = random_floats(D, 1);
  std::vector<float> row(D);
  for (int i = 0; i < D / 2; ++i) row[2 * i] = std::cos(0.3f * i), row[2 * i + 1] = std::sin(0.3f * i);
  Device<float> d_src(src), d_weight(weight), d_row(row), normed(3 * D), turned(3 * D);
  Device<Cache> cache(3 * 2 * D);
  run(HeadStage<D>{d_src.data, d_weight.data, d_row.data, normed.data, turned.data, cache.data}, 32, 1);
  const std::vector<float> turns = turned.get();
  const std::vector<Cache> kept = cache.get();
  double worst = 0;
  bool exact = true;
  for (int i = 0; i < 3; ++i) {
    double square = 0;
    for (int d = 0; d < D; ++d) square += double(src[i * D + d]) * src[i * D + d];
    const auto x = [&](int d) { return src[i * D + d] / std::sqrt(square / D + 1e-6) * weight[d]; };
    for (int d = 0; d < D / 2; ++d) {
      const double c = row[2 * d], s = row[2 * d + 1];
      worst = std::max(worst, std::fabs(turns[i * D + d] - (x(d) * c - x(d + D / 2) * s)));
      worst = std::max(worst, std::fabs(turns[i * D + d + D / 2] - (x(d + D / 2) * c + x(d) * s)));
    }
    for (int d = 0; d < D; ++d) {
      Cache k, v;
      host_round(&k, turns[i * D + d]), host_round(&v, src[i * D + d]);
      exact = exact && host_float(k) == host_float(kept[i * 2 * D + d]) && host_float(v) == host_float(kept[i * 2 * D + D + d]);
    }
  }
  report(worst < 5e-6 && exact, "head_norm, rope, append D=%d: error %.2g, rounded as expected: %d", D, worst, exact);
}

template <int K>
struct EmbedStage {
  float* dst;
  const Matrix* table;
  const int* ids;
  int tokens;
  __device__ void operator()(Block& b) const { embed<K>(b, dst, table, ids, tokens, block_range(b, K)); }
};

template <int K>
void check_embed() {
  const std::vector<Matrix> table = random_matrix(50, K, 1);
  std::vector<int> ids(kPassTokens);
  for (int& id : ids) id = int(random_bits() % 50);
  Device<Matrix> d_table(table);
  Device<int> d_ids(ids);
  Device<float> dst(size_t(kPassTokens) * K);
  run(EmbedStage<K>{dst.data, d_table.data, d_ids.data, kPassTokens}, 32);
  const std::vector<float> y = dst.get();
  bool exact = true;
  for (int token = 0; token < kPassTokens; ++token)
    for (int k = 0; k < K; ++k) exact = exact && y[token * K + k] == host_float(table[size_t(ids[token]) * padded(K) + k]);
  report(exact, "embed K=%d", K);
}

// ---- sampling

struct SampleStage {
  const float* logits;
  Sampling s;
  int* counts;
  int position;
  int* next;
  __device__ void operator()(Block& b) const {
    if (b.index() == 0) sample(b, logits, s, counts, nullptr, position, 0, next);
  }
};

/** The same choice by sorting. */
int sample_by_sorting(const std::vector<float>& logits, const Sampling& s, const std::vector<int>& counts, int position) {
  struct Candidate {
    float z;
    int id;
  };
  std::vector<Candidate> all;
  for (int id = 0; id < s.vocab; ++id) {
    volatile float x = logits[id];
    if (counts[id] > 0) {
      volatile const float less = std::fma(float(counts[id] / kChosenOnce), s.frequency_penalty, s.presence_penalty);
      if (x < 0) {
        x = std::fma(x, s.repetition_penalty, -less);
      } else {
        x = x / s.repetition_penalty;
        x = x - less;
      }
    }
    all.push_back({s.temperature > 0 ? x / s.temperature : x, id});
  }
  std::stable_sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) { return a.z > b.z; });
  if (!(s.temperature > 0)) return all[0].id;
  const auto mass = [&](const Candidate& c) { return exp_fixed(c.z - all[0].z); };
  size_t n = all.size();
  if (s.top_k > 0 && size_t(s.top_k) < n)
    for (n = s.top_k; n < all.size() && all[n].z == all[n - 1].z;) ++n;
  if (s.top_p < 1) {
    uint64_t total = 0, sum = 0;
    for (size_t i = 0; i < n; ++i) total += mass(all[i]);
    const double need = std::max(1.0, std::ceil(double(s.top_p) * double(total)));
    size_t kept = 0;
    while (kept < n && (double(sum) < need || all[kept].z == all[kept - 1].z)) sum += mass(all[kept++]);
    n = kept;
  }
  if (s.min_p > 0) {
    const uint64_t least = uint64_t(double(s.min_p) * double(exp_fixed(0)));
    size_t kept = 0;
    while (kept < n && mass(all[kept]) >= least) ++kept;
    n = kept;
  }
  int best = 0;
  float most = -INFINITY;
  for (size_t i = 0; i < n; ++i) {
    const float noisy = all[i].z + gumbel(noise_bits(noise_key(s.seed, position), all[i].id));
    if (noisy > most || (noisy == most && all[i].id < best)) most = noisy, best = all[i].id;
  }
  return best;
}

void check_sampling() {
  struct Case {
    const char* name;
    Sampling s;
    float spread;  // of the logits
    bool ties;
  };
  const Case cases[] = {
      {"greedy", {0, 0, 1, 0, 1, 0, 0, 1, kVocab}, 10, false},
      {"greedy, ties", {0, 0, 1, 0, 1, 0, 0, 1, kVocab}, 10, true},
      {"greedy, penalties", {0, 0, 1, 0, 1.3f, 0.5f, 0.25f, 1, kVocab}, 10, false},
      {"temperature alone", {0.9f, 0, 1, 0, 1, 0, 0, 2, kVocab}, 10, false},
      {"top_k 20, top_p 0.95", {0.6f, 20, 0.95f, 0, 1, 0, 0, 3, kVocab}, 10, false},
      {"top_k 50, ties", {1, 50, 1, 0, 1, 0, 0, 4, kVocab}, 10, true},
      {"top_p 0.9", {0.7f, 0, 0.9f, 0, 1, 0, 0, 5, kVocab}, 20, false},
      {"top_p 0.95 of a flat distribution", {1, 0, 0.95f, 0, 1, 0, 0, 6, kVocab}, 0.5f, false},
      {"top_k 10,000, top_p 0.5, min_p 0.1", {1, 10000, 0.5f, 0.1f, 1, 0, 0, 7, kVocab}, 5, false},
      {"min_p 0.05", {1.5f, 0, 1, 0.05f, 1, 0, 0, 8, kVocab}, 10, false},
      {"all, penalties, odd vocabulary", {0.8f, 40, 0.9f, 0.02f, 1.2f, 0.3f, -0.1f, 9, 1003}, 8, false},
      {"one token", {1, 0, 1, 0, 1, 0, 0, 10, 1}, 8, false},
      {"all equal", {1, 20, 0.9f, 0, 1, 0, 0, 11, kVocab}, 0, false},
  };
  for (const Case& c : cases) {
    bool same = true, counted = true;
    for (int offset = 0; offset < 4; ++offset) {  // logits rows of an odd vocabulary are not aligned to 16 bytes
      std::vector<float> logits(kVocab + 4);
      for (float& x : logits) {
        x = random_float() * c.spread;
        x = x * std::fabs(x) / std::max(c.spread, 1e-3f);
        if (c.ties) x = std::round(x * 2) / 2;
        x += 0.0f;  // no negative zeros: sorting takes them for equal to zero
      }
      std::vector<int> counts(kVocab);
      for (int& n : counts) n = random_bits() % 5 == 0 ? int(random_bits() % 9) : 0;
      const std::vector<float> row(logits.begin() + offset, logits.end());
      Device<float> d_logits(logits);
      Device<int> d_counts(counts), next(1);
      run(SampleStage{d_logits.data + offset, c.s, d_counts.data, 77 + offset, next.data}, sample_scratch());
      const int expected = sample_by_sorting(row, c.s, counts, 77 + offset), got = next.get()[0];
      if (got != expected) printf("     token %d, expected %d\n", got, expected);
      same = same && got == expected;
      if (got >= 0 && got < kVocab) counts[got] += kChosenOnce;
      counted = counted && d_counts.get() == counts;
    }
    report(same && counted, "sample: %s: as by sorting: %d, counted: %d", c.name, same, counted);
    bool told = true;
    for (const float strange : {NAN, -NAN, INFINITY, -INFINITY}) {
      for (const int id : {0, c.s.vocab / 2, c.s.vocab - 1, kVocab - 1}) {
        std::vector<float> logits(kVocab);
        for (float& x : logits) x = random_float() + 2;
        std::vector<int> counts(kVocab, 1);
        const int expected = id < c.s.vocab ? kNotFinite : sample_by_sorting(logits, c.s, counts, 7);
        logits[id] = strange;
        Device<float> d_logits(logits);
        Device<int> d_counts(counts), next(1);
        run(SampleStage{d_logits.data, c.s, d_counts.data, 7, next.data}, sample_scratch());
        if (expected >= 0) counts[expected] += kChosenOnce;
        told = told && next.get()[0] == expected && d_counts.get() == counts;
      }
    }
    report(told, "sample: %s: a logit that is no number is told: %d", c.name, told);
  }
}

// ---- the barrier

struct ExchangeStage {
  int* words;  // [blocks]
  int* wrong;
  int rounds;
  __device__ void operator()(Block& b) const {
    for (int round = 1; round <= rounds; ++round) {
      if (threadIdx.x == 7) words[b.index()] = round;
      grid_barrier(b);
      for (int i = int(threadIdx.x); i < b.count(); i += kThreads)
        if (words[i] != round) atomicAdd(wrong, 1);
      grid_barrier(b);
    }
  }
};

struct LostStage {
  __device__ void operator()(Block& b) const {
    if (b.index() != 1) grid_barrier(b);
    for (int i = 0; i < 100; ++i) grid_barrier(b);
  }
};

void check_barrier() {
  Device<int> words(multiprocessors), wrong(1);
  for (int launches = 0; launches < 5; ++launches) run(ExchangeStage{words.data, wrong.data, 101}, 32);
  report(wrong.get()[0] == 0, "grid_barrier: what was written before is seen after, 5 launches of 202 barriers");
  run(LostStage{}, 32);
  unsigned state[kBarrierWords];
  CUDA_CHECK(cudaMemcpy(state, barrier_words, sizeof state, cudaMemcpyDeviceToHost));
  report(state[kBarrierError] != 0 && state[kBarrierOrdinal] == 101, "grid_barrier: a lost block ends the launch: error word %u, barrier %u",
         state[kBarrierError], state[kBarrierOrdinal]);
  CUDA_CHECK(cudaMemset(barrier_words, 0, kBarrierWords * sizeof(unsigned)));
  run(ExchangeStage{words.data, wrong.data, 3}, 32);
  report(wrong.get()[0] == 0, "grid_barrier: works again once its words are zero");
}

// ---- time

/** Microseconds of one repetition inside one launch: median of 7 launches. */
template <class Stage>
double micros(const Stage& stage, int scratch_floats, int repetitions) {
  cudaEvent_t begin, end;
  CUDA_CHECK(cudaEventCreate(&begin));
  CUDA_CHECK(cudaEventCreate(&end));
  std::vector<float> times;
  for (int i = 0; i < 8; ++i) {
    CUDA_CHECK(cudaEventRecord(begin));
    launch(stage, scratch_floats);
    CUDA_CHECK(cudaEventRecord(end));
    CUDA_CHECK(cudaEventSynchronize(end));
    float millis = 0;
    CUDA_CHECK(cudaEventElapsedTime(&millis, begin, end));
    if (i > 0) times.push_back(millis);
  }
  CUDA_CHECK(cudaEventDestroy(begin));
  CUDA_CHECK(cudaEventDestroy(end));
  std::sort(times.begin(), times.end());
  return times[times.size() / 2] * 1e3 / repetitions;
}

struct BarrierTime {
  int repetitions;
  __device__ void operator()(Block& b) const {
    for (int i = 0; i < repetitions; ++i) grid_barrier(b);
  }
};

/** Products with one matrix after the other; with barriers as in a kernel, or without, for the stream alone. */
template <int K, int Parts>
struct MatmulTime {
  const float* src;
  const Matrix* w;
  float* out;
  int rows, tokens, matrices, repetitions;
  bool barriers, prefetch;
  __device__ void operator()(Block& b) const {
    gather_input<K>(b, src, tokens);
    for (int i = 0; i < repetitions; ++i) {
      const size_t elements = size_t(rows) * Parts * padded(K);
      matmul<K, Parts>(b, w + i % matrices * elements, block_range(b, rows), tokens, [&](int row, int token, const float(&y)[Parts]) {
        out[token * rows + row] = y[0] + y[Parts - 1];
      });
      if (prefetch) prefetch_rows<K, Parts>(b, w + (i + 1) % matrices * elements, block_range(b, rows));
      if (barriers) grid_barrier(b);
    }
  }
};

template <int K, int Parts>
void time_matmul(int rows, double barrier) {
  const size_t bytes = size_t(rows) * Parts * padded(K) * sizeof(Matrix);
  const int matrices = int(std::max<size_t>(2, (400u << 20) / bytes)), repetitions = std::max(4, std::min(400, matrices));
  Device<Matrix> w(bytes / sizeof(Matrix) * matrices);
  Device<float> src(random_floats(size_t(kPassTokens) * K, 1)), out(size_t(kPassTokens) * rows);
  for (int tokens : {1, 8}) {
    if (tokens > kPassTokens) break;
    MatmulTime<K, Parts> stage{src.data, w.data, out.data, rows, tokens, matrices, repetitions, false, false};
    const double stream = micros(stage, kPassTokens * padded(K), repetitions);
    stage.barriers = true;
    const double steps = micros(stage, kPassTokens * padded(K), repetitions);
    stage.prefetch = true;
    const double ahead = micros(stage, kPassTokens * padded(K), repetitions);
    printf("matmul %6d x %-5d x %d parts, %d tokens: %7.2f us %5.0f GB/s; with a barrier %7.2f us (%.2f without its cost); and prefetch %7.2f us\n",
           rows, K, Parts, tokens, stream, double(bytes) / stream / 1e3, steps, steps - barrier, ahead);
  }
}

template <int D, int Group, int Splits>
struct AttendTime {
  const float* q;
  const Cache* cache;  // [layers][heads][context][2][D]
  float* partial;
  int heads, context, position, tokens, layers, repetitions;
  __device__ void operator()(Block& b) const {
    for (int i = 0; i < repetitions; ++i) {
      const Cache* const layer = cache + size_t(i % layers) * heads * context * 2 * D;
      for (int unit = b.index(); unit < heads * Splits; unit += b.count()) {
        const int head = unit / Splits, split = unit % Splits;
        const int begin = int((long long)position * split / Splits);
        const int end = split == Splits - 1 ? position + tokens : int((long long)position * (split + 1) / Splits);
        attend<D, Group, Splits>(b, 0, q + head * Group * D, heads * Group * D, layer + size_t(head) * context * 2 * D,
                                 partial + head * Group * Splits * (D + 2), heads * Group * Splits * (D + 2), split, begin, end,
                                 position, tokens, 0);
      }
      grid_barrier(b);
    }
  }
};

enum class Step { norm, gather, merge, sample };

/** One small step after the other, with barriers. */
struct SmallTime {
  Step step;
  const float *src, *weight, *partial, *logits;
  int tokens, repetitions;
  Sampling s;
  int *counts, *next;
  __device__ void operator()(Block& b) const {
    for (int i = 0; i < repetitions; ++i) {
      if (step == Step::norm) norm_input<1024>(b, src, weight, 1e-6f, tokens);
      if (step == Step::gather) gather_input<3072>(b, src, tokens);
      if (step == Step::merge) merge_input<2048, 128, 16>(b, partial, tokens);
      if (step == Step::sample && b.index() == 0) sample(b, logits, s, counts, nullptr, i, 0, next);
      grid_barrier(b);
    }
  }
};

void time_all() {
  const double barrier = micros(BarrierTime{2000}, 32, 2000);
  printf("\ngrid_barrier: %.2f us\n", barrier);

  Device<float> src(random_floats(8 * 4096, 1)), weight(random_floats(4096, 1)), logits(random_floats(kVocab, 10));
  Device<float> partial(random_floats(size_t(8) * 16 * 16 * 130, 1));
  Device<int> counts(kVocab), next(1);
  SmallTime small{Step::norm, src.data, weight.data, partial.data, logits.data, 1, 400, {}, counts.data, next.data};
  const int scratch = std::max(kPassTokens * 3072, sample_scratch());
  const char* const names[] = {"norm_input 1024", "gather_input 3072", "merge_input 16 heads x 128, 16 splits"};
  for (int tokens : {1, 8}) {
    if (tokens > kPassTokens) break;
    for (Step step : {Step::norm, Step::gather, Step::merge}) {
      small.step = step, small.tokens = tokens;
      const double time = micros(small, scratch, 400);
      printf("%s, %d tokens, with a barrier: %.2f us (%.2f without its cost)\n", names[int(step)], tokens, time, time - barrier);
    }
  }
  const Sampling ways[] = {{0, 0, 1, 0, 1, 0, 1, kVocab}, {0.6f, 20, 0.95f, 0, 1, 0, 1, kVocab}, {0.6f, 0, 0.95f, 0, 1, 0, 1, kVocab},
                           {1, 0, 1, 0, 1, 0, 1, kVocab}};
  const char* const way_names[] = {"greedy", "temperature 0.6, top_k 20, top_p 0.95", "temperature 0.6, top_p 0.95", "temperature 1"};
  for (int i = 0; i < 4; ++i) {
    small.step = Step::sample, small.s = ways[i], small.repetitions = 20;
    printf("sample of %d, %s: %.1f us\n", kVocab, way_names[i], micros(small, scratch, 20) - barrier);
  }

  {
    constexpr int D = 128, Group = 2, Splits = 16, kHeads = 8;
    for (int position : {200, 1900, 8000})
      for (int tokens : {1, 8}) {
        if (tokens > kPassTokens) break;
        const int context = position + 8, layers = std::max(2, int((400ll << 20) / (int64_t(kHeads) * context * 2 * D * sizeof(Cache))));
        Device<Cache> cache(size_t(layers) * kHeads * context * 2 * D);
        Device<float> q(random_floats(size_t(8) * kHeads * Group * D, 1));
        const int repetitions = std::min(layers, 200);
        const double time = micros(AttendTime<D, Group, Splits>{q.data, cache.data, partial.data, kHeads, context, position, tokens, layers, repetitions},
                                   attend_scratch<D, Group, kPassTokens>(), repetitions);
        const double bytes = double(kHeads) * position * 2 * D * sizeof(Cache);
        printf("attend 8 kv heads, 16 q heads of 128, position %d, %d tokens, with a barrier: %.2f us (%.2f without its cost; %.0f GB/s)\n",
               position, tokens, time, time - barrier, bytes / (time - barrier) / 1e3);
      }
  }
  time_matmul<1024, 1>(4096, barrier);
  time_matmul<2048, 1>(1024, barrier);
  time_matmul<1024, 2>(3072, barrier);
  time_matmul<3072, 1>(1024, barrier);
  time_matmul<1024, 1>(151936, barrier);
}

int main() {
  cudaDeviceProp properties;
  CUDA_CHECK(cudaGetDeviceProperties(&properties, 0));
  multiprocessors = properties.multiProcessorCount;
  printf("%s, %d multiprocessors; %d bytes a weight, %d tokens a pass\n", properties.name, multiprocessors, int(sizeof(Matrix)), kPassTokens);
  CUDA_CHECK(cudaMalloc(reinterpret_cast<void**>(&barrier_words), kBarrierWords * sizeof(unsigned)));
  CUDA_CHECK(cudaMemset(barrier_words, 0, kBarrierWords * sizeof(unsigned)));

  for (From from : {From::gather, From::norm, From::memory}) {
    check_matmul<20, 1>(5, from);
    check_matmul<100, 1>(77, from);
    check_matmul<102, 3>(41, from);
    check_matmul<896, 2>(133, from);
    check_matmul<1024, 1>(2100, from);
    check_matmul<1024, 2>(777, from);
    check_matmul<3072, 1>(1024, from);
    check_matmul<4864, 1>(300, from);
  }
  check_norm<100>();
  check_norm<1024>();
  check_norm<4099>();
  check_norm<20480>();
  for (int position : {0, 1, 37, 1501}) {
    check_attend<128, 2, 16>(position);
    check_attend<64, 7, 5>(position);
    check_attend<20, 3, 9>(position);
    check_attend<80, 1, 1>(position);
    check_attend<256, 4, 3>(position);
    check_attend<32, 16, 4>(position);
    check_attend<64, 7, 5>(position, 3);
    check_attend<20, 3, 9>(position, 40);
  }
  check_heads<20>();
  check_heads<128>();
  check_embed<100>();
  check_embed<1024>();
  check_sampling();
  check_barrier();
  time_all();
  printf("overall okay: %d\n", overall);
  return overall ? 0 : 1;
}
