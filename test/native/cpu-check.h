// What the native tests of the CPU target share: reproducible numbers, and one line of JSON for each check.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>

/** Uniform in [-1, 1). */
inline float random_float() {
  static uint64_t state = 1;
  state = state * 6364136223846793005ull + 1442695040888963407ull;
  return static_cast<float>(static_cast<int32_t>(state >> 32)) * 0x1p-31f;
}

/** Error of a float32 sum of n rounded terms, as a share of the sum of their magnitudes: every addition and product rounds once. */
inline double sum_error(int n) { return (n + 4) * 0x1p-24; }

/** The worst error of one check, as a share of what is allowed. */
class Check {
 public:
  explicit Check(const char* name) : name_(name) {}
  ~Check() { printf("{\"check\": \"%s\", \"compared\": %ld, \"worst\": %.4g}\n", name_, compared_, worst_); }

  void near(double got, double want, double allowed) {
    const double error = std::fabs(got - want);
    add(error == 0 ? 0 : std::isnan(error) ? 1e9 : error / allowed);
  }
  void equal(double got, double want) { add(got == want ? 0 : 1e9); }
  void that(bool fact) { add(fact ? 0 : 1e9); }

 private:
  void add(double share) {
    ++compared_;
    if (share > worst_) worst_ = share > 1e9 ? 1e9 : share;
  }

  const char* name_;
  long compared_ = 0;
  double worst_ = 0;
};
