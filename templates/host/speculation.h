// Whether to check drafts in the next pass, how many, and whose. It never spends more than a share of the time that plain passes take,
// so that text which does not repeat costs next to nothing; what drafts save is its credit, and what is left goes to the next reply.
// A model that drafts is asked where no text repeats, as long as it promises to save more than it takes.
#pragma once
#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "backend.h"
#include "drafter.h"
#include "generate_job.h"

/** Most drafts of a pass where their number is chosen here: seven and the token before them. */
constexpr int32_t kMostAutomatic = 7;

/** What passes of an engine took lately, and what drafts may cost. */
struct PassTimes {
  double plain_ms = 0;                         // of one token; 0: not measured
  double checked_ms[kMostAutomatic + 1] = {};  // with so many drafts
  double credit_ms = 0;                        // left by passes of all replies
  double draft_ms = 0;                         // of a token that a model drafts; 0: not measured
  double model_chance = kModelChance;          // that a draft of a model is right whose predecessors are
  double model_seen = kModelPrior;             // drafts that this is the share of

  static constexpr double kModelChance = 0.8;  // until it is seen
  static constexpr double kModelPrior = 8;     // drafts that this counts for
};

class Speculation {
 public:
  /** @param model that drafts, null: none */
  Speculation(Backend* backend, const SpeculationOptions& options, PassTimes& times, Drafter* model)
      : automatic_(options.draft_tokens < 0),
        most_(std::min(automatic_ ? kMostAutomatic : options.draft_tokens, backend_check_tokens(backend) - 1)),
        model_(model),
        times_(times) {
    const double first = kFirstCredit * times_.plain_ms;
    times_.credit_ms = model_ ? first : std::min(times_.credit_ms, first);
    times_.model_chance += kForgotten * (PassTimes::kModelChance - times_.model_chance);
    if (most_ < 1) return;
    drafter_ = backend_drafter(backend);
    if (drafter_) return;
    lookup_ = std::make_unique<PromptLookup>(options.draft_ngram, std::min(options.draft_ngram, 2));
    drafter_ = lookup_.get();
  }

  bool on() const { return most_ > 0; }

  /** Of so many tokens that are expected by whoever masks them, those to check: as many as promise to save most, or a trial's. */
  int32_t of_expected(int32_t expected) {
    kind_ = kExpectedDrafts;
    const int32_t most = std::min(most_, expected);
    return automatic_ ? (times_.plain_ms == 0 ? 0 : worth_while(most)) : most;
  }

  /** Tokens to check behind the last of `known`, at most `room`. */
  std::vector<int32_t> drafts(const std::vector<int32_t>& known, int32_t room) {
    const int32_t most = std::min(most_, room);
    if (most < 1) return {};
    drafting_ms_ = 0;
    Draft draft = looked_up(known, most);
    if (model_ && draft.kind < kRepeats) {
      Draft other = modelled(known, most);
      if (!other.tokens.empty()) draft = std::move(other);
    }
    kind_ = draft.kind;
    if (automatic_ && kind_ != kModelDrafts) draft.tokens.resize(worth_while(static_cast<int32_t>(draft.tokens.size())));
    return std::move(draft.tokens);
  }

  /** Whether there are drafts behind `known`; a model that would be asked is taken at its word. */
  bool has_drafts(const std::vector<int32_t>& known) {
    kind_ = kModelDrafts;
    return (model_ && count_of_model(most_) > 0) || !looked_up(known, 1).tokens.empty();
  }

  /** What a pass took that checked so many drafts, of which so many were right. */
  void passed(int32_t drafted, int32_t right, double ms) {
    drafted_ += drafted;
    accepted_ += right;
    if (!automatic_) return;
    double& usual = drafted == 0 ? times_.plain_ms : times_.checked_ms[drafted];
    const bool is_first = usual == 0;
    usual = is_first ? ms : usual + (ms < usual ? kFaster : kSlower) * (std::min(ms, 2 * usual) - usual);
    if (drafted == 0) {
      // A model is there to be tried.
      if (is_first) times_.credit_ms += model_ ? kFirstCredit * times_.plain_ms : 0;
      times_.credit_ms += kShare * times_.plain_ms;
    } else {
      times_.credit_ms += right * times_.plain_ms;
      // Of a model what it took and not what it usually takes: its threads may wait for a core.
      times_.credit_ms -= kind_ == kModelDrafts ? std::min(ms, 2 * usual) - times_.plain_ms + drafting_ms_ : extra_ms(drafted);
      saw_each(right, drafted);
    }
    times_.credit_ms = std::min(times_.credit_ms, kMostCredit * times_.plain_ms);
  }

  int32_t drafted() const { return drafted_; }
  int32_t accepted() const { return accepted_; }

 private:
  static constexpr double kShare = 0.01;     // of the time of plain passes
  static constexpr double kMostCredit = 8;   // plain passes: what is left when a repetition ends is spent on no more than these
  static constexpr double kFirstCredit = 1;  // and what the replies before have left on no more than this: a short one is not to pay for them all
  static constexpr double kNewest = 0.25;    // weight of the newest draft among those of its kind
  static constexpr double kNewestDraft = 0.1;  // weight of what the newest draft of a model took
  static constexpr double kMostSeen = 64;    // drafts of a model by which it is judged
  static constexpr double kForgotten = 0.05; // of what is known of a model, with each reply: one that did not pay may do so in another text
  static constexpr double kFaster = 0.5;     // weight of the newest pass, if it was faster than usual
  static constexpr double kSlower = 0.05;    // and if it was slower: another process took its time
  static constexpr double kLeastExtra = 0.05;  // of a plain pass, for each draft, whatever was measured
  static constexpr double kMostMaskedExtra = 2;  // of a plain pass, for each draft with a mask
  static constexpr double kExtra = 0.3;      // of a plain pass, for each draft, until it is measured: 0.15 to 0.4 on two CPU cores

  /** Drafts that are free. */
  Draft looked_up(const std::vector<int32_t>& known, int32_t most) {
    if (automatic_ && (times_.plain_ms == 0 || check_ms(1) > times_.credit_ms)) return {};
    return drafter_->draft(known, most);
  }

  /** Drafts of the model. What it takes is taken off the credit, but for its first ones of a reply, for which it reads the prompt. */
  Draft modelled(const std::vector<int32_t>& known, int32_t most) {
    kind_ = kModelDrafts;
    const int32_t count = count_of_model(most);
    if (count < 1) return {};
    const auto start = std::chrono::steady_clock::now();
    Draft draft = model_->draft(known, count);
    const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    if (!std::exchange(has_read_, true) || draft.tokens.empty()) return draft;
    const double each = ms / static_cast<double>(draft.tokens.size());
    times_.draft_ms = times_.draft_ms == 0 ? each : times_.draft_ms + kNewestDraft * (std::min(each, times_.plain_ms) - times_.draft_ms);
    drafting_ms_ = std::min(ms, kMostCredit * times_.plain_ms);
    return draft;
  }

  /** Drafts that a model is asked for, of at most so many. */
  int32_t count_of_model(int32_t most) const {
    if (!automatic_) return most;
    return times_.plain_ms == 0 ? 0 : worth_while(most);
  }

  /** So many drafts of the last kind were right; of those behind one that was not nobody knows. */
  void saw_each(int32_t right, int32_t drafted) {
    for (int32_t i = 0; i < std::min(right + 1, drafted); ++i) saw(i < right);
  }

  /** That a draft of the last kind, whose predecessors were right, was right or wrong. */
  void saw(bool right) {
    if (kind_ != kModelDrafts) {
      chance_[kind_] += kNewest * (right - chance_[kind_]);
      return;
    }
    times_.model_seen = std::min(times_.model_seen + 1, kMostSeen);
    times_.model_chance += (right - times_.model_chance) / times_.model_seen;
  }

  /** What drafts cost beyond a plain pass. */
  double extra_ms(int32_t drafts) const { return check_ms(drafts) + (kind_ == kModelDrafts ? drafts * times_.draft_ms : 0); }

  /** What checking them costs. */
  double check_ms(int32_t drafts) const {
    const double each = drafts * times_.plain_ms;
    if (times_.checked_ms[drafts] == 0) return kExtra * each;
    const double extra = std::max(times_.checked_ms[drafts] - times_.plain_ms, kLeastExtra * each);
    // A measurement that was disturbed must not end all trials: no draft costs more than a pass of its own, and where masks are made for it, than the first.
    if (kind_ != kExpectedDrafts) return std::min(extra, each);
    return std::min(extra, drafts == 1 || times_.checked_ms[1] == 0 ? kMostMaskedExtra * each : drafts * check_ms(1));
  }

  /** Drafts that promise to save most; where none promises anything one that is free, to learn whether that is still so. */
  int32_t worth_while(int32_t offered) const {
    const bool is_model = kind_ == kModelDrafts, is_expected = kind_ == kExpectedDrafts;
    int32_t best = is_model || extra_ms(1) > times_.credit_ms ? 0 : std::min(offered, 1);
    double expected = 0, most = 0;
    double chance = 1;
    for (int32_t drafts = 1; drafts <= offered && (is_expected || extra_ms(drafts) <= times_.credit_ms); ++drafts) {
      chance *= is_model ? times_.model_chance : chance_[kind_];
      expected += chance;
      const double saved = expected * times_.plain_ms - extra_ms(drafts);
      if (saved > most) {
        most = saved;
        best = drafts;
      }
    }
    return best;
  }

  const bool automatic_;
  int32_t most_;  // drafts of a pass
  std::unique_ptr<PromptLookup> lookup_;
  Drafter* drafter_ = nullptr;
  Drafter* const model_;
  PassTimes& times_;
  double chance_[kDraftKinds] = {0.3, 0.4, 0.6, 0.7, 0.8, 0.9};  // that a draft is right whose predecessors are
  int kind_ = 0;                                            // of the last draft
  bool has_read_ = false;                                   // the model has the prompt
  double drafting_ms_ = 0;                                  // what the last draft took
  int32_t drafted_ = 0, accepted_ = 0;
};
