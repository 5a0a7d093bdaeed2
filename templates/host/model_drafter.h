// Drafts of a model: another engine of this process, of this library or another, says what it would choose next. With the seed, the positions and
// the sampling of the reply it has the same noise, so that where the two models think alike they choose alike.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "abi.h"
#include "drafter.h"
#include "generate_job.h"
#include "job.h"

/** Writes at most args->max_tokens tokens to out, which an engine would choose behind args->ids; how many, or minus a status. Positions that it
 *  has of these ids it does not compute again. It ends early once stopping(of) says so. */
using DraftFunction = int32_t (*)(void* engine, const GenerateArgs* args, int32_t* out, bool (*stopping)(void*), void* of);

/** The engine that drafts. */
struct DraftEngine {
  void* engine = nullptr;  // nullptr: there is none
  DraftFunction draft = nullptr;
  int32_t vocab = 0;            // rows of its LM head
  int32_t status = kStatusOk;   // why it gave up

  bool ready() const { return engine != nullptr && status == kStatusOk; }
};

/** For one reply. */
class ModelDrafter : public Drafter {
 public:
  ModelDrafter(DraftEngine& by, const GenerateJob& job, const JobThread& thread) : by_(by), thread_(thread) {
    args_.stop_ids = const_cast<int32_t*>(job.stop_ids.data());
    args_.stop_count = static_cast<int32_t>(job.stop_ids.size());
    args_.draft_ngram = 1;
    args_.top_logprobs = -1;
    args_.sampling = job.sampling;
    args_.sampling.vocab = std::min(job.sampling.vocab, by.vocab);
    for (size_t i = 0; i < job.bias_ids.size(); ++i) {
      if (job.bias_ids[i] >= by.vocab) continue;
      bias_ids_.push_back(job.bias_ids[i]);
      biases_.push_back(job.biases[i]);
    }
    args_.bias_ids = bias_ids_.data();
    args_.biases = biases_.data();
    args_.bias_count = static_cast<int32_t>(bias_ids_.size());
  }

  Draft draft(const std::vector<int32_t>& known, int32_t most) override {
    Draft draft;
    draft.kind = kModelDrafts;
    if (!by_.ready() || std::any_of(known.begin(), known.end(), [this](int32_t id) { return id >= by_.vocab; })) return draft;
    args_.ids = const_cast<int32_t*>(known.data());
    args_.count = static_cast<int32_t>(known.size());
    args_.max_tokens = most;
    draft.tokens.resize(static_cast<size_t>(most));
    const auto stopping = [](void* of) { return static_cast<const JobThread*>(of)->stopping(); };
    const int32_t made = by_.draft(by_.engine, &args_, draft.tokens.data(), stopping, const_cast<JobThread*>(&thread_));
    if (made < 0) by_.status = -made;
    draft.tokens.resize(static_cast<size_t>(std::max(made, 0)));
    return draft;
  }

 private:
  DraftEngine& by_;
  const JobThread& thread_;
  std::vector<int32_t> bias_ids_;
  std::vector<float> biases_;
  GenerateArgs args_{};
};
