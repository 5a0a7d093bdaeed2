// Kernels of grid barriers: a launch is one pass, and its token and its failure come back behind it.
#pragma once
#include <thread>

#include "scheme_base.h"

struct Scheme final : SchemeBase {
  /** Whose the tracks of a block are, in a profile: one of them is used. */
  static constexpr int kRoles[] = {kRoleBlock, kRoleBlock, kRoleBlock, kRoleBlock};

  Needs needs() const override { return {kWeightBytes, 0, 2 * kHeadDim}; }

  void bind(Pass& pass, int, Arena& device, Arena& pinned) override {
    pass.weights = weights_ = device.take<char>(kWeightBytes);
    bind_activations(pass, device.take<char>(kActivationBytes));
    pass.barrier = device.take<unsigned>(kBarrierWords);
    pass.next = reinterpret_cast<int*>(pass.barrier + kBarrierHost);
    results_ = pinned.take<Result>(kMaxOutstanding);
  }

  Place place(int64_t offset) override { return {weights_ + offset, kWeightBytes - offset}; }

  std::string misfit(const Gpu& gpu) const override { return "a block of this kernel does not fit on " + gpu.name; }

  int most_steps(int) const override { return 1; }

  void collect(const Launch& launch, cudaStream_t stream) override {
    const unsigned* const from = launch.pass.barrier + kBarrierError;
    CUDA(cudaMemcpyAsync(results_ + launch.slot, from, sizeof(Result), cudaMemcpyDeviceToHost, stream));
  }

  unsigned reply(const Launch& launch, int) const override {
    return launch.ended && launch.pass.sample ? 1 + results_[launch.slot].word(kBarrierHost) : 0;
  }

  std::string failure(const Launch& launch, cudaStream_t stream) override {
    const Result& result = results_[launch.slot];
    if (result.word(kBarrierError) == 0) return "";
    cudaMemsetAsync(launch.pass.barrier, 0, kBarrierWords * sizeof(unsigned), stream);  // fails again at the next launch if it fails
    return "barrier: block " + std::to_string(result.word(kBarrierError) - 1) + " waited more than 2 s at grid barrier " +
           std::to_string(result.word(kBarrierOrdinal)) + " of the pass";
  }

  void pause(const Launch&) const override { std::this_thread::yield(); }

 private:
  /** Words of Pass.barrier, from what went wrong to the chosen token. */
  struct Result {
    unsigned words[kBarrierHost + 1 - kBarrierError];
    unsigned word(int i) const { return words[i - kBarrierError]; }
  };

  char* weights_ = nullptr;    // [kWeightBytes]
  Result* results_ = nullptr;  // [kMaxOutstanding], pinned
};
