// No kernels for prompts: they go through passes of decoding.
#pragma once
#include <string>
#include <vector>

#include "arena.h"
#include "backend.h"
#include "device.h"
#include "model.h"

struct PromptLaunches {
  static constexpr int kMostTokens = 0, kLeastTokens = 0;
  static constexpr bool kMakesLogits = false;
  explicit PromptLaunches(const Gpu&) {}
  void bind(int, Arena&, Arena&) {}
  void launch(const Pass&, int, cudaStream_t) {}
  void launch_head(int, int, cudaStream_t) {}
  bool finished(int, bool) const { return true; }
  std::string failure(int, bool) const { return ""; }
#if PROFILE
  void take_events(std::vector<ProfileEvent>*, int64_t*, cudaStream_t) const {}
#endif
};
