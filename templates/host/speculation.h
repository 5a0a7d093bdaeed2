// Whether to check drafts in the next pass, and how many. It never spends more than a share of the time that plain passes take,
// so that text which does not repeat costs next to nothing; what drafts save is its credit, and what is left goes to the next reply.
#pragma once
#include <algorithm>
#include <memory>
#include <vector>

#include "backend.h"
#include "drafter.h"

struct SpeculationOptions {
  int32_t draft_tokens;  // most of a pass; 0: none, -1: as many as pay
  int32_t draft_ngram;   // most tokens that are looked up
};

/** Most drafts of a pass where their number is chosen here: seven and the token before them. */
constexpr int32_t kMostAutomatic = 7;

/** What passes of an engine took lately, and what drafts may cost. */
struct PassTimes {
  double plain_ms = 0;                         // of one token; 0: not measured
  double checked_ms[kMostAutomatic + 1] = {};  // with so many drafts
  double credit_ms = 0;                        // left by passes of all replies
};

class Speculation {
 public:
  Speculation(Backend* backend, const SpeculationOptions& options, PassTimes& times)
      : automatic_(options.draft_tokens < 0),
        most_(std::min(automatic_ ? kMostAutomatic : options.draft_tokens, backend_check_tokens(backend) - 1)),
        times_(times) {
    times_.credit_ms = std::min(times_.credit_ms, kFirstCredit * times_.plain_ms);
    if (most_ < 1) return;
    drafter_ = backend_drafter(backend);
    if (drafter_) return;
    lookup_ = std::make_unique<PromptLookup>(options.draft_ngram, std::min(options.draft_ngram, 2));
    drafter_ = lookup_.get();
  }

  bool on() const { return most_ > 0; }

  /** Tokens to check behind the last of `known`, at most `room`. */
  std::vector<int32_t> drafts(const std::vector<int32_t>& known, int32_t room) {
    const int32_t most = std::min(most_, room);
    if (most < 1) return {};
    if (!automatic_) return drafter_->draft(known, most).tokens;
    if (times_.plain_ms == 0 || extra_ms(1) > times_.credit_ms) return {};
    Draft draft = drafter_->draft(known, most);
    kind_ = draft.kind;
    draft.tokens.resize(worth_while(static_cast<int32_t>(draft.tokens.size())));
    return std::move(draft.tokens);
  }

  /** What a pass took that checked so many drafts, of which so many were right. */
  void passed(int32_t drafted, int32_t right, double ms) {
    drafted_ += drafted;
    accepted_ += right;
    if (!automatic_) return;
    double& usual = drafted == 0 ? times_.plain_ms : times_.checked_ms[drafted];
    usual = usual == 0 ? ms : usual + (ms < usual ? kFaster : kSlower) * (std::min(ms, 2 * usual) - usual);
    if (drafted == 0) {
      times_.credit_ms += kShare * times_.plain_ms;
    } else {
      times_.credit_ms += right * times_.plain_ms - extra_ms(drafted);
      for (int32_t i = 0; i < std::min(right + 1, drafted); ++i) chance_[kind_] += kNewest * ((i < right) - chance_[kind_]);
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
  static constexpr double kFaster = 0.5;     // weight of the newest pass, if it was faster than usual
  static constexpr double kSlower = 0.05;    // and if it was slower: another process took its time
  static constexpr double kLeastExtra = 0.05;  // of a plain pass, for each draft, whatever was measured
  static constexpr double kExtra = 0.3;      // of a plain pass, for each draft, until it is measured: 0.15 to 0.4 on two CPU cores

  /** What drafts cost beyond a plain pass. */
  double extra_ms(int32_t drafts) const {
    const double measured = times_.checked_ms[drafts];
    const double each = drafts * times_.plain_ms;
    // A measurement that was disturbed must not end all trials: no draft costs more than a pass of its own.
    return measured > 0 ? std::min(std::max(measured - times_.plain_ms, kLeastExtra * each), each) : kExtra * each;
  }

  /** Drafts that promise to save most; one where none promises anything, to learn whether that is still so. */
  int32_t worth_while(int32_t offered) const {
    int32_t best = std::min(offered, 1);
    double expected = 0, most = 0;
    double chance = 1;
    for (int32_t drafts = 1; drafts <= offered && extra_ms(drafts) <= times_.credit_ms; ++drafts) {
      chance *= chance_[kind_];
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
  PassTimes& times_;
  double chance_[kDraftKinds] = {0.3, 0.4, 0.6, 0.7, 0.8};  // that a draft is right whose predecessors are
  int kind_ = 0;                                            // of the last draft
  int32_t drafted_ = 0, accepted_ = 0;
};
