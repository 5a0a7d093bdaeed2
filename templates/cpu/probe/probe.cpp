// What a CPU can do, measured without a model: each line of the output is one figure as JSON, as lab/calibrate reads it.
//     {"term":"barrier","x":0,"value":0.31,"least":0.3,"most":0.4}
// Times are us and bandwidths GB/s. Arguments: threads.
#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

#include "lib/team.h"

namespace {

constexpr int kRuns = 7;  // of a figure, after one that is thrown away
constexpr int kTurns = 20000;

double now_micros() {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/** work(number) on every thread of a team, from one barrier to the next [us]. */
double timed(int threads, const std::function<void(Block&)>& work) {
  Team team{};
  team.count = threads;
  double from = 0, to = 0;
  std::vector<std::thread> others;
  const auto body = [&](int number) {
    Block block{&team, number, nullptr};
    grid_barrier(block);
    if (number == 0) from = now_micros();
    work(block);
    grid_barrier(block);
    if (number == 0) to = now_micros();
  };
  for (int i = 1; i < threads; ++i) others.emplace_back(body, i);
  body(0);
  for (std::thread& other : others) other.join();
  return to - from;
}

void figure(const char* term, int x, int threads, const std::function<void(Block&)>& work, const std::function<double(double)>& of) {
  std::vector<double> values;
  for (int i = -1; i < kRuns; ++i) {
    const double micros = timed(threads, work);
    if (i >= 0) values.push_back(of(micros));
  }
  std::sort(values.begin(), values.end());
  printf("{\"term\":\"%s\",\"x\":%d,\"value\":%.5g,\"least\":%.5g,\"most\":%.5g}\n", term, x, values[kRuns / 2], values.front(), values.back());
}

/** Adds up a thread's part of the words, `turns` times. */
void read_part(Block& block, const std::vector<uint64_t>& words, int turns) {
  const int64_t count = int64_t(words.size()) / block.count();
  const uint64_t* const at = words.data() + block.index() * count;
  for (int turn = 0; turn < turns; ++turn) {
    uint64_t sum[16] = {};
    for (int64_t i = 0; i + 16 <= count; i += 16)
      for (int k = 0; k < 16; ++k) sum[k] += at[i + k];
    for (const uint64_t one : sum) __asm__ volatile("" ::"r"(one) : "memory");
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? atoi(argv[1]) : 1;
  const auto read = [threads](const char* term, int mebibytes, int turns) {
    const std::vector<uint64_t> words(size_t(mebibytes) << 17, 1);
    figure(term, mebibytes, threads, [&](Block& block) { read_part(block, words, turns); },
           [&](double micros) { return double(words.size()) * 8 * turns / micros / 1e3; });
  };
  read("bandwidth", 512, 1);
  for (int mebibytes = 1; mebibytes <= 64; mebibytes *= 2) read("cacheBandwidth", mebibytes, 256 / mebibytes);
  figure("barrier", 0, threads, [](Block& block) {
    for (int turn = 0; turn < kTurns; ++turn) grid_barrier(block);
  }, [](double micros) { return micros / kTurns; });
  return 0;
}
