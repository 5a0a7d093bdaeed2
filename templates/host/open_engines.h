// Who closes an engine: its caller; else a thread of its own once the caller's environment is gone; else the end of the process.
#pragma once
#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <utility>
#include <vector>

/** Keeps this library in memory for good: its threads may outlive the environment that loaded it, which unloads it as it ends. */
inline void stay_loaded() {
  Dl_info here{};
  static const char anchor = 0;
  if (dladdr(&anchor, &here) == 0) return;
  // Opens nothing: marks what is open.
  dlopen(here.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
}

/** The engines that are open. Engine has a method hang_up(), and its destructor stops its job and frees everything. */
template <class Engine>
class OpenEngines {
 public:
  void add(Engine* engine) {
    std::lock_guard<std::mutex> lock(mutex_);
    open_.push_back(engine);
    if (!std::exchange(at_exit_, true)) std::atexit([] { all().close_all(); });
  }

  /** Runs body, unless the engine is closed; while it runs nobody deletes it. For threads of other engines. */
  template <class Body>
  void use(Engine* engine, Body&& body) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (std::find(open_.begin(), open_.end(), engine) == open_.end()) return;
      used_.push_back(engine);
    }
    body();
    std::lock_guard<std::mutex> lock(mutex_);
    used_.erase(std::find(used_.begin(), used_.end(), engine));
    changed_.notify_all();
  }

  /** Deletes an engine, unless somebody else did or does. */
  void close(Engine* engine) {
    {
      std::unique_lock<std::mutex> lock(mutex_);
      const auto found = std::find(open_.begin(), open_.end(), engine);
      if (found == open_.end()) return;
      open_.erase(found);
      ++closing_;
      changed_.wait(lock, [&] { return std::find(used_.begin(), used_.end(), engine) == used_.end(); });
    }
    delete engine;
    std::lock_guard<std::mutex> lock(mutex_);
    --closing_;
    changed_.notify_all();
  }

  /** Never destroyed: the threads of engines use it until the process ends. */
  static OpenEngines& all() {
    static OpenEngines& engines = *new OpenEngines();
    return engines;
  }

 private:
  /** Before the process ends, and before what the engines use is taken down (the runtime of CUDA, which was set up by the first of them). */
  void close_all() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (!open_.empty()) {
      Engine* const engine = open_.back();
      lock.unlock();
      close(engine);
      lock.lock();
    }
    changed_.wait_for(lock, kPatience, [this] { return closing_ == 0; });
  }

  static constexpr std::chrono::seconds kPatience{10};

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Engine*> open_;
  std::vector<Engine*> used_;
  int closing_ = 0;
  bool at_exit_ = false;
};
