// Passes in flight: enqueued in order, waited for in order, and never left behind.
#pragma once
#include <string>

#include "backend.h"
#include "errors.h"

class Passes {
 public:
  explicit Passes(Backend* backend) : backend_(backend) {}
  Passes(const Passes&) = delete;
  Passes& operator=(const Passes&) = delete;

  /** Waits for what is still in flight: its results are of no use to anyone. */
  ~Passes() {
    leaving_ = true;
    if (outstanding_ > 0) backend_stop(backend_);
    for (; outstanding_ > 0; --outstanding_) {
      std::string error;
      int32_t token;
      guarded(&error, [&] { backend_wait(backend_, &token, &error); });
    }
  }

  int outstanding() const { return outstanding_; }

  void enqueue(PassRequest request) {
    std::string error;
    if (request.may_choose) request.may_choose = [this, asked = request.may_choose] { return !leaving_ && asked(); };
    check(backend_enqueue(backend_, request, &error), error);
    outstanding_ += request.steps;
  }

  /** Asks the oldest pass, where it is to be asked. False: another one cannot follow it yet. */
  bool ask() { return backend_ask(backend_); }

  /** Waits for the oldest pass; the token it sampled, or -1. */
  int32_t wait() {
    std::string error;
    int32_t token = -1;
    --outstanding_;
    check(backend_wait(backend_, &token, &error), error);
    return token;
  }

 private:
  Backend* const backend_;
  int outstanding_ = 0;
  bool leaving_ = false;
};
