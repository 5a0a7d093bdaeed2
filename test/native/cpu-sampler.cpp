// The CPU sampler against plain sorts, and against the distribution it should draw from.
// The last line is a hash of everything chosen: the same on every instruction set.
#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "abi.h"
#include "cpu-check.h"
#include "lib/types.h"
#include "host/logprobs.h"

using Matrix = bf16;
using Cache = bf16;
constexpr int kPassTokens = 1, kVocab = 1000, kHeadDim = 20, kGroup = 2, kScratchFloats = 0;
constexpr float kAttnScale = 1;
constexpr int kInputBits = 16;
#include "lib/lib.h"

using Floats = std::vector<float>;

static Sampling settings(float temperature) {
  Sampling s{};
  s.temperature = temperature;
  s.top_p = 1;
  s.repetition_penalty = 1;
  s.seed = 1234;
  s.vocab = kVocab;
  return s;
}

static Floats scratch(sample_scratch());
static Team team{1, 0, {}};
static uint32_t chosen_hash = 1;
static Floats biases;  // none, unless a check sets them
static std::vector<uint32_t> mask;  // none, unless a check sets it
static Choice choice;

static int choose(const Floats& logits, const Sampling& s, std::vector<int> counts, int position) {
  Block b{&team, 0, scratch.data()};
  int next = -1;
  choice = {biases.empty() ? nullptr : biases.data(), mask.empty() ? nullptr : mask.data()};
  team.choices = &choice;
  sample(b, logits.data(), s, counts.data(), position, 0, &next);
  chosen_hash = chosen_hash * 31 + next;
  return next;
}

static std::vector<int> kept(const Floats& logits, const Sampling& s, const std::vector<int>& counts) {
  std::vector<uint32_t> keys(kVocab);
  std::vector<int> ids(kVocab);
  ids.resize(sample_candidates(logits.data(), s, counts.data(), {}, s.vocab, keys.data(), ids.data()));
  std::sort(ids.begin(), ids.end());
  return ids;
}

/** The same set by sorting; `unsure` are those within rounding of the border of top_p or min_p. */
static std::vector<int> kept_by_sorting(const Floats& logits, const Sampling& s, std::vector<int>* unsure) {
  std::vector<std::pair<float, int>> order;
  for (int i = 0; i < s.vocab; ++i) order.push_back({logits[i] / s.temperature, i});
  std::sort(order.begin(), order.end(), [](auto& a, auto& b) { return a.first > b.first; });
  if (s.top_k > 0 && s.top_k < s.vocab) {
    const float least = order[s.top_k - 1].first;
    while (order.back().first < least) order.pop_back();
  }
  const double largest = order[0].first;
  double total = 0;
  for (auto& [z, id] : order) total += std::exp(z - largest);
  const double blur = 1e-6;
  std::vector<int> ids;
  double above = 0;  // mass of strictly larger z
  for (size_t i = 0; i < order.size();) {
    size_t end = i;
    double mass = 0;
    while (end < order.size() && order[end].first == order[i].first) mass += std::exp(order[end++].first - largest);
    const double share = above / total, size = std::exp(order[i].first - largest);
    const bool in = (i == 0 || s.top_p >= 1 || share < s.top_p) && (i == 0 || size >= s.min_p);
    const bool near = i > 0 && ((s.top_p < 1 && std::fabs(share - s.top_p) < blur) || std::fabs(size - s.min_p) < blur * size);
    for (; i < end; ++i) {
      if (in) ids.push_back(order[i].second);
      if (near) unsure->push_back(order[i].second);
    }
    above += mass;
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

static void check_sets() {
  Check check("top_k, top_p and min_p keep what a sort keeps");
  const std::vector<int> counts(kVocab, 0);
  for (int trial = 0; trial < 600; ++trial) {
    Floats logits(kVocab);
    const bool ties = trial % 3 == 0;
    for (float& logit : logits) logit = ties ? std::floor(random_float() * 8) : random_float() * (trial % 7 + 1) * 3;
    if (trial % 5 == 0) logits[trial] = -3e38f;  // -inf once it is divided by a temperature below 1
    Sampling s = settings(std::fabs(random_float()) + 0.3f);
    s.vocab = trial % 2 ? kVocab : 777;
    if (trial % 4 != 0) s.top_k = 1 + trial % 60;
    if (trial % 4 > 1) s.top_p = std::fabs(random_float());
    if (trial % 5 > 2) s.min_p = std::fabs(random_float()) * 0.3f;
    std::vector<int> unsure;
    auto want = kept_by_sorting(logits, s, &unsure);
    auto got = kept(logits, s, counts);
    for (int id : unsure) {
      want.erase(std::remove(want.begin(), want.end(), id), want.end());
      got.erase(std::remove(got.begin(), got.end(), id), got.end());
    }
    check.that(got == want);
    const int token = choose(logits, s, counts, trial);
    check.that(std::count(got.begin(), got.end(), token) + std::count(unsure.begin(), unsure.end(), token) > 0);
  }
}

/** Chi-square of draws over seeds and positions: below mean + 5 standard deviations. */
/** A word of all, of none or of some tokens, at random. */
static std::vector<uint32_t> random_mask(int trial) {
  std::vector<uint32_t> words((kVocab + 31) / 32);
  for (uint32_t& word : words) {
    const float kind = random_float();
    word = kind < -0.4f ? 0 : kind < 0.2f ? ~0u : 1u << (trial % 32) | static_cast<uint32_t>(static_cast<int32_t>(random_float() * 0x7fffffff));
  }
  words[trial % 20] |= 2;
  return words;
}

/** Of tokens that a mask forbids none is chosen, and of the others the one that is chosen where their logits are -infinity by a bias. */
static void check_masks() {
  Check check("masks");
  for (int trial = 0; trial < 600; ++trial) {
    Floats logits(kVocab);
    for (float& logit : logits) logit = trial % 3 == 0 ? std::floor(random_float() * 8) : random_float() * 6;
    std::vector<int> counts(kVocab, 0);
    for (int i = 0; i < 40; ++i) counts[i * 23] = i % 3;
    Sampling s = settings(trial % 4 == 0 ? 0 : 0.9f);
    s.vocab = trial % 2 ? kVocab : 777;
    if (trial % 3 == 1) s.top_k = 1 + trial % 300;
    if (trial % 5 == 1) s.top_p = 0.8f;
    if (trial % 7 == 1) s.min_p = 0.1f;
    if (trial % 8 > 5) s.repetition_penalty = 1.3f;
    const std::vector<uint32_t> words = trial % 10 == 9 ? std::vector<uint32_t>((kVocab + 31) / 32, 0) : random_mask(trial);
    mask = words;
    if (trial % 10 == 9) mask[trial / 10 % 24] = 4;  // one token alone
    Floats other(kVocab);
    for (int i = 0; i < kVocab; ++i) other[i] = trial % 11 == 3 ? random_float() : 0;
    if (trial % 11 == 3) biases = other;
    const int token = choose(logits, s, counts, trial);
    check.that(token >= 0 && token < s.vocab && (mask[token / 32] >> token % 32 & 1) == 1);
    for (int i = 0; i < kVocab; ++i)
      if ((mask[i / 32] >> i % 32 & 1) == 0) other[i] = -INFINITY;
    biases = other;
    mask.clear();
    check.equal(token, choose(logits, s, counts, trial));
    biases.clear();
  }
}

static void check_distribution(const char* name, Sampling s, const Floats& logits) {
  Check check(name);
  const std::vector<int> counts(kVocab, 0);
  const auto ids = kept(logits, s, counts);
  double largest = -1e30, total = 0;
  for (int id : ids) largest = std::max(largest, double(logits[id]) / s.temperature);
  for (int id : ids) total += std::exp(logits[id] / s.temperature - largest);
  std::vector<int> drawn(kVocab, 0);
  const int draws = 60000;
  for (int i = 0; i < draws; ++i) {
    s.seed = i % 251;
    ++drawn[choose(logits, s, counts, i / 251)];
  }
  double chi = 0, rest_want = 0, rest_got = 0;
  int cells = 0;
  for (int id : ids) {
    const double want = draws * std::exp(logits[id] / s.temperature - largest) / total;
    if (want < 10) {
      rest_want += want;
      rest_got += drawn[id];
      continue;
    }
    chi += (drawn[id] - want) * (drawn[id] - want) / want;
    ++cells;
  }
  if (rest_want > 10) {
    chi += (rest_got - rest_want) * (rest_got - rest_want) / rest_want;
    ++cells;
  }
  const double freedom = cells - 1;
  check.near(chi, 0, freedom + 5 * std::sqrt(2 * freedom));
  int elsewhere = draws;
  for (int id : ids) elsewhere -= drawn[id];
  check.equal(elsewhere, 0);
}

static void check_greedy() {
  Check check("greedy, penalties and masked rows");
  Floats logits(kVocab, -1.0f);
  std::vector<int> counts(kVocab, 0);
  Sampling s = settings(0);
  check.equal(choose(logits, s, counts, 0), 0);
  logits[700] = logits[300] = 2;
  check.equal(choose(logits, s, counts, 0), 300);
  logits[900] = 3;
  s.vocab = 900;
  check.equal(choose(logits, s, counts, 0), 300);
  s.vocab = 0;  // no tokenizer's size given: all rows
  check.equal(choose(logits, s, counts, 0), 900);
  s.vocab = 901;
  counts[900] = 4;
  check.equal(choose(logits, s, counts, 0), 900);
  s.repetition_penalty = 1.6f;  // 3 / 1.6 < 2
  check.equal(choose(logits, s, counts, 0), 300);
  s.repetition_penalty = 1;
  s.presence_penalty = 0.9f;
  check.equal(choose(logits, s, counts, 0), 900);
  s.presence_penalty = 1.1f;
  check.equal(choose(logits, s, counts, 0), 300);
  s.presence_penalty = 0;
  s.frequency_penalty = 0.3f;  // 3 - 3 * 0.3 > 2
  for (int chosen = 0; chosen < 6; ++chosen) {
    counts[900] = kInPrompt + chosen * kChosenOnce;
    check.equal(choose(logits, s, counts, 0), chosen > 3 ? 300 : 900);
  }
  biases.assign(kVocab, 0.0f);
  biases[17] = 4;  // of a logit of -1
  check.equal(choose(logits, s, counts, 0), 17);
  biases[517] = 4.5f;
  for (float temperature : {0.0f, 0.001f}) check.equal(choose(logits, settings(temperature), counts, 0), 517);
  biases[517] = 0;
  s.temperature = 0.01f;
  check.equal(choose(logits, s, counts, 0), 17);
  biases.clear();
  // A negative logit is multiplied: it must not rise.
  Floats negative(kVocab, -2.0f);
  negative[5] = -1.5f;
  std::vector<int> fifth(kVocab, 0);
  fifth[5] = 1;
  s = settings(0);
  s.repetition_penalty = 1.5f;  // -2.25
  check.equal(choose(negative, s, fifth, 0), 0);
  s.temperature = 0.001f;
  s.top_k = 1;
  std::fill(negative.begin() + 100, negative.end(), -3e38f);  // over a temperature: -inf
  for (int i = 0; i < 50; ++i) {
    const int token = choose(negative, s, fifth, i);
    check.that(token != 5 && token < 100);
  }
}

static void check_adjusted() {
  Check check("logits with bias and penalties");
  for (int i = 0; i < 20000; ++i) {
    Sampling s = settings(0);
    s.repetition_penalty = 1 + random_float() / 2;
    s.presence_penalty = 2 * random_float();
    s.frequency_penalty = i % 3 ? 2 * random_float() : 0;
    const float logit = 20 * random_float(), bias = i % 7 ? 100 * random_float() : 0;
    const bool in_prompt = i % 2;
    const int chosen = i % 5;
    double want = double(logit) + bias, largest = std::fabs(want);
    if (in_prompt || chosen > 0) {
      want = want < 0 ? want * s.repetition_penalty : want / s.repetition_penalty;
      largest = std::max(std::max(largest, std::fabs(want)), std::fabs(s.presence_penalty) + chosen * std::fabs(double(s.frequency_penalty)));
      want -= s.presence_penalty + chosen * double(s.frequency_penalty);
    }
    // Four roundings, none of a number larger than both terms together; the first is of the sum that is then multiplied, by up to 2.
    const int count = in_prompt * kInPrompt + chosen * kChosenOnce;
    check.near(adjusted(&logit, 0, s, &count, bias != 0 ? &bias : nullptr), want, 5 * 0x1p-24 * 2 * largest);
  }
}

static void check_finite() {
  Check check("logits that are no numbers");
  std::vector<int> counts(kVocab, 0);
  counts[44] = 1;
  Sampling narrow = settings(1), penalised = settings(0), masked = settings(0.7f);
  narrow.top_k = 20;
  narrow.top_p = 0.5f;
  narrow.min_p = 0.1f;
  penalised.repetition_penalty = 3e38f;
  penalised.presence_penalty = 2;
  masked.vocab = 900;
  for (const Sampling& s : {settings(0), settings(1), narrow, penalised, masked}) {
    for (const float strange : {NAN, -NAN, INFINITY, -INFINITY}) {
      for (const int id : {0, 44, 899, 900, kVocab - 1}) {
        Floats logits(kVocab, -1.0f);
        logits[7] = 5;
        const int expected = choose(logits, s, counts, id);
        logits[id] = strange;
        check.equal(choose(logits, s, counts, id), id < s.vocab ? kNotFinite : expected);
      }
    }
  }
  // Numbers that penalties and temperature drive out of the floats were numbers.
  Floats logits(kVocab, -1.0f);
  logits[44] = -5;
  check.that(choose(logits, penalised, counts, 0) != kNotFinite);
  logits[44] = 5;
  penalised.repetition_penalty = 1e-38f;
  check.equal(choose(logits, penalised, counts, 0), 44);
  Sampling cold = settings(1e-38f);
  cold.top_k = 1;
  check.equal(choose(logits, cold, counts, 0), 44);
}

static void check_noise() {
  Check value("gumbel"), bound("gumbel bound"), exponential("fixed-point exp");
  for (int i = 0; i < 400000; ++i) {
    const uint32_t bits = i < 33 ? ~(~0ull >> i) >> 32 : i < 66 ? ~0u >> (i - 33) % 32 : noise_bits(noise_key(7, i / 1000), i) >> i % 20;
    const double v = (bits + 0.5) * 0x1p-32, want = -std::log(-std::log1p(-v));
    value.near(gumbel(bits), want, 4e-7 * std::max(1.0, std::fabs(want)));
    bound.that(gumbel(bits) <= gumbel_bound(bits) && gumbel_bound(bits) <= noise_limit(bits));
    bound.that(bits < 2 || gumbel_bound(bits) == noise_limit(bits));
  }
  for (int i = 0; i < 200000; ++i) {
    const float x = -29 * std::fabs(random_float());
    exponential.near(exp_fixed(x) * 0x1p-40, std::exp(double(x)), 4 * 0x1p-24 * std::exp(double(x)) + 0x1p-40);
  }
  exponential.equal(exp_fixed(0), 0x1p40);
  exponential.equal(exp_fixed(-INFINITY), 0);
}

/** Of rows that are no whole blocks, with ties, and with tokens that have no name. */
static void check_logprobs() {
  Check check("log probabilities");
  for (const int vocab : {1, 3, 63, 64, 65, 200, 1000}) {
    for (const float scale : {0.01f, 4.0f, 60.0f}) {
      Floats logits(vocab);
      for (float& logit : logits) logit = scale > 50 ? std::round(scale * random_float()) : scale * random_float();
      const int known = vocab - vocab / 8, top = std::min(known, vocab % 21);
      double sum = 0;
      const double largest = *std::max_element(logits.begin(), logits.end());
      for (const float logit : logits) sum += std::exp(logit - largest);
      std::vector<int> ids(known);
      std::iota(ids.begin(), ids.end(), 0);
      std::stable_sort(ids.begin(), ids.end(), [&](int a, int b) { return logits[a] > logits[b]; });
      ids.insert(ids.begin(), vocab - 1);
      const std::vector<TokenLogprob> told = logprobs_of(logits.data(), vocab, known, vocab - 1, top);
      check.equal(told.size(), 1 + top);
      for (int i = 0; i <= top; ++i) {
        const double want = logits[ids[i]] - largest - std::log(sum);
        check.equal(told[i].token, ids[i]);
        // Exponentials within five roundings, of arguments that are rounded; sums of a lane of a block; what is told.
        check.near(told[i].logprob, want, (5 + 1 + LogitsRow::kBlock / 4 + std::fabs(want)) * 0x1p-24);
      }
    }
  }
}

int main() {
  check_logprobs();
  check_noise();
  check_sets();
  check_masks();
  check_greedy();
  check_adjusted();
  check_finite();
  Floats few(kVocab, -3e38f), many(kVocab), flat(kVocab, 0.5f);
  for (int i = 0; i < 10; ++i) few[i * 99] = random_float() * 2;
  for (float& logit : many) logit = random_float() * 4;
  check_distribution("draws from ten tokens", settings(0.8f), few);
  check_distribution("draws from a thousand tokens", settings(1.3f), many);
  check_distribution("draws from equal tokens", settings(1), flat);
  Sampling s = settings(1);
  s.top_k = 40;
  s.top_p = 0.9f;
  s.min_p = 0.05f;
  check_distribution("draws from what is kept", s, many);
  printf("{\"check\": \"hash %08x\", \"compared\": 1, \"worst\": 0}\n", chosen_hash);
}
