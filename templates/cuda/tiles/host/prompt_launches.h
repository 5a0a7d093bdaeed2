// Prompts that take the kernels of many tokens.
#pragma once
#include <string>
#include <vector>

#include "arena.h"
#include "backend.h"
#include "device.h"
#include "profile.h"
#include "prompt_calls.h"
#include "tensor_maps.h"

class PromptLaunches {
 public:
  static constexpr int kMostTokens = tiles::kMostTokens, kLeastTokens = tiles::kLeastTokens;
  static constexpr bool kMakesLogits = tiles::kMakesLogits;

  explicit PromptLaunches(const Gpu& gpu) {
    check_cuda(kernel_prompt_blocks(gpu.index, &blocks_), "kernel_prompt_blocks");
    if (blocks_ == 0) throw Failure{kStatusDevice, "a block of the prompt's kernel does not fit on " + gpu.name};
  }

  /** Takes its pieces, in an engine of so many positions. */
  void bind(int context, Arena& device, Arena& pinned) {
    bind_prompt(args_, device.take<char>(prompt_bytes(context)));
    args_.barrier = device.take<unsigned>(tiles::kBarrierWords);
    results_ = pinned.take<Results>(kMaxOutstanding);
#if PROFILE
    marks_ = device.take<ProfileMark>(int64_t{blocks_} * kBlockTracks * kTrackMarks);
#endif
  }

  /** The tokens of a pass through all layers; with `sample`, the logits of the last one to pass.logits. */
  void launch(const Pass& pass, int slot, cudaStream_t stream) {
    args_.pass = pass;
    args_.rows = args_.first_row = 0;
    start(stream);
    collect(results_[slot].of_layers, stream);
    if (!pass.sample) return;
    launch_head(pass.tokens - 1, 1, stream);
    collect(results_[slot].of_head, stream);
  }

  /** Logits of tokens of the latest pass, to pass.logits; at most kPassTokens. */
  void launch_head(int first_row, int rows, cudaStream_t stream) {
    args_.rows = rows;
    args_.first_row = first_row;
    start(stream);
  }

  /** True when a launch that has ended did all that it was asked for: it was not stopped. */
  bool finished(int slot, bool sample) const {
    const Results& of = results_[slot];
    return of.of_layers[tiles::kFinished] != 0 && (!sample || of.of_head[tiles::kFinished] != 0);
  }

  /** Why a launch that has ended failed, or nothing. */
  std::string failure(int slot, bool sample) const {
    const Results& of = results_[slot];
    const unsigned* const late = (sample && of.of_layers[tiles::kLate] == 0 ? of.of_head : of.of_layers) + tiles::kLate;
    if (late[0] == 0) return "";
    return "block " + std::to_string(late[0] - 1) + " waited more than 2 s at grid barrier " + std::to_string(late[1]) + " of a prompt";
  }

#if PROFILE
  /** Adds what launches have written down, by the first thread of each block. */
  void take_events(std::vector<ProfileEvent>* events, int64_t* missed, cudaStream_t stream) const {
    constexpr int kRoles[] = {kRoleBlock, kRoleBlock, kRoleBlock, kRoleBlock};
    ::take_events(marks_, blocks_, kRoles, events, missed, stream);
  }
#endif

 private:
  using Result = unsigned[tiles::kBarrierWords];
  struct Results {
    Result of_layers, of_head;
  };

  void collect(Result& to, cudaStream_t stream) const { CUDA(cudaMemcpyAsync(to, args_.barrier, sizeof to, cudaMemcpyDeviceToHost, stream)); }

  void start(cudaStream_t stream) {
    CUDA(cudaMemsetAsync(args_.barrier, 0, sizeof(Result), stream));
#if WGMMA
    if (maps_.empty()) maps_ = make_maps();
    args_.maps = maps_[tiles::kernel_of(args_.rows > 0 ? args_.rows : args_.pass.tokens)];
#endif
#if PROFILE
    args_.pass.profile = marks_;
#endif
    check_cuda(kernel_prompt(args_, blocks_, stream), "kernel_prompt");
  }

#if WGMMA
  /** Of each kernel, whose boxes differ. */
  std::vector<tiles::Maps> make_maps() const {
    std::vector<tiles::Maps> all;
    for (const tiles::Kernel& kernel : tiles::kKernels) {
      tiles::Maps& maps = all.emplace_back();
      for (int i = 0; i < tiles::kProducts; ++i) {
        const tiles::Operands& of = tiles::kOperands[i];
        make_map(maps.input[i], args_.*of.input, 1, kStreamLayerBytes, of.input_groups, of.cells, kernel.tokens / 8);
        make_map(maps.weights[i], tiles::matrices_of(args_) + of.at, of.layers, kStreamLayerBytes, of.groups, of.cells, kernel.rows[i] / 8);
      }
    }
    return all;
  }

  std::vector<tiles::Maps> maps_;
#endif
#if PROFILE
  ProfileMark* marks_ = nullptr;
#endif
  PromptArgs args_{};
  int blocks_ = 0;
  Results* results_ = nullptr;  // [kMaxOutstanding], pinned
};
