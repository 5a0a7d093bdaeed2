#include "launch.h"

#include <signal.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <queue>

#include "fiber.h"

namespace emu {

Thread* current = nullptr;
const Launch* launched = nullptr;

namespace {

/** Rounds of looking in vain after which a launch cannot go on. */
constexpr uint64_t kVainRounds = 3000;
/** Turns after which those that look have another turn though others could go on. */
constexpr uint64_t kLongestRound = 1 << 16;
/** Turns that a copy takes at most. */
constexpr uint64_t kLongestCopy = 3000;
/** One in so many turns goes to any thread; the others stay with those that were woken last. */
constexpr uint64_t kJump = 32, kNear = 40;

struct Work {
  uint64_t due;
  std::function<void()> work;
  bool operator<(const Work& other) const { return due > other.due; }
};

struct State {
  std::vector<Block> blocks;
  std::vector<Thread> threads;
  std::vector<Thread*> ready, looking;
  std::priority_queue<Work> under_way;
  void* outside = nullptr;  // where run() stands
  uint64_t random = 0, turns = 0, round_began = 0, rounds = 0, last_progress = 0;
  int live = 0;
  Crossing grid;
  std::string failure;
};
State state;

uint64_t seed() {
  const char* const text = getenv("ONELAUNCH_EMULATOR_SEED");
  return text != nullptr ? strtoull(text, nullptr, 10) : 1;
}

std::string place_text(const Place& place) {
  const std::string file = place.file, name = file.substr(file.rfind('/') + 1);
  return place.line > 0 ? place.what + std::string(" (") + name + ":" + std::to_string(place.line) + ")" : place.what;
}

std::string thread_text(const Thread& t) {
  return "block " + std::to_string(t.block->number) + ", thread " + std::to_string(&t - &state.threads[0] - t.block->number * int(state.threads.size() / state.blocks.size()));
}

/** Where the threads of each block stand, those of one place together; blocks that stand alike once. */
std::string standing() {
  std::map<std::string, std::vector<int>> alike;
  for (const Block& block : state.blocks) {
    std::map<std::string, int> places;
    for (const Thread& t : state.threads)
      if (t.block == &block) ++places[t.done ? "ended" : place_text(t.place)];
    std::string text;
    for (const auto& [place, count] : places) text += (text.empty() ? "" : ", ") + std::to_string(count) + " at " + place;
    alike[text].push_back(block.number);
  }
  std::string all;
  for (const auto& [text, blocks] : alike) {
    all += all.empty() ? "block" : "; block";
    for (size_t i = 0; i < blocks.size() && i < 4; ++i) all += (i ? "," : " ") + std::to_string(blocks[i]);
    if (blocks.size() > 4) all += ",...";
    all += ": " + text;
  }
  return all;
}

void do_due_work() {
  while (!state.under_way.empty() && state.under_way.top().due <= state.turns) {
    const auto work = state.under_way.top().work;
    state.under_way.pop();
    work();
    progress();
  }
}

/** A round ends: all that look may look again. */
void begin_round() {
  state.ready.insert(state.ready.end(), state.looking.begin(), state.looking.end());
  state.looking.clear();
  state.round_began = state.turns;
  ++state.rounds;
}

/** The thread whose turn it is; null: all have ended, or none can go on. */
Thread* next() {
  for (;;) {
    ++state.turns;
    do_due_work();
    const bool vain = state.rounds - state.last_progress > kVainRounds;
    if (vain && state.under_way.empty() && state.live > 0) {
      state.failure = "nothing moves any more: " + standing();
      return nullptr;
    }
    if (!state.looking.empty() && state.turns - state.round_began > kLongestRound) begin_round();
    if (const size_t n = state.ready.size()) {
      const uint64_t bits = random_bits();
      const size_t among = bits % kJump == 0 ? n : std::min<size_t>(n, kNear), at = n - 1 - (bits >> 32) % among;
      Thread* const chosen = state.ready[at];
      state.ready[at] = state.ready.back();
      state.ready.pop_back();
      return chosen;
    }
    if (!state.looking.empty()) {
      begin_round();
    } else if (!state.under_way.empty()) {
      state.turns = state.under_way.top().due;
    } else {
      if (state.live > 0) state.failure = "all threads wait: " + standing();
      return nullptr;
    }
  }
}

void leave_for(Thread* to) {
  void* unused;
  void** const from = current != nullptr ? &current->stack : &unused;
  current = to;
  emu_switch(from, to != nullptr ? to->stack : state.outside);
}

void turn() {
  Thread* const to = next();
  if (to != current) leave_for(to);
}

void body() {
  launched->body();
  Thread& self = *current;
  land_all(self);
  self.done = true;
  --state.live;
  --self.block->live;
  leave_meetings(self);
  progress();
  turn();
  abort();
}

// ---- signals: what touches a page that it may not ends the launch

struct sigaction before[2];
char signal_stack[64 << 10];

void on_fault(int number, siginfo_t* info, void* context) {
  if (current == nullptr) {
    sigaction(number, &before[number == SIGBUS], nullptr);
    return;
  }
  const Window& w = current->block->shared;
  const auto* const at = static_cast<const char*>(info->si_addr);
  char text[200];
  snprintf(text, sizeof text, "a thread touches memory that is not its own (%td bytes from the end of its block's shared memory)", at - (w.base + w.size));
  state.failure = thread_text(*current) + " after " + place_text(current->place) + ": " + text;
  current = nullptr;
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  registers[REG_RSP] = reinterpret_cast<greg_t>(state.outside);
  registers[REG_RIP] = reinterpret_cast<greg_t>(&emu_resume);
}

/** Catches faults while it lives. */
struct Faults {
  stack_t stack_before;
  Faults() {
    stack_t stack{};
    stack.ss_sp = signal_stack;
    stack.ss_size = sizeof signal_stack;
    sigaltstack(&stack, &stack_before);
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &before[0]);
    sigaction(SIGBUS, &action, &before[1]);
  }
  ~Faults() {
    sigaction(SIGSEGV, &before[0], nullptr);
    sigaction(SIGBUS, &before[1], nullptr);
    sigaltstack(&stack_before, nullptr);
  }
};

void prepare(const Launch& launch) {
  const unsigned threads = launch.size.x * launch.size.y * launch.size.z, blocks = launch.grid.x * launch.grid.y * launch.grid.z;
  const unsigned warps = (threads + 31) / 32;
  if (state.random == 0) state.random = seed() * 0x9e3779b97f4a7c15ull | 1;
  state.ready.clear();
  state.looking.clear();
  state.under_way = {};
  state.failure.clear();
  state.grid = {};
  state.last_progress = state.rounds;
  state.live = int(threads * blocks);
  state.blocks.assign(blocks, {});
  state.threads.resize(size_t{threads} * blocks);
  for (unsigned b = 0; b < blocks; ++b) {
    Block& block = state.blocks[b];
    block.index = {b % launch.grid.x, b / launch.grid.x % launch.grid.y, b / launch.grid.x / launch.grid.y};
    block.number = int(b);
    block.live = int(threads);
    block.shared = window_of(int(b), launch.shared_bytes);
    block.warps.resize(warps);
    for (unsigned w = 0; w < warps; ++w) {
      const unsigned lanes = std::min(32u, threads - w * 32);
      block.warps[w].lanes = &state.threads[size_t{b} * threads + w * 32];
      block.warps[w].exited = lanes == 32 ? 0 : ~0u << lanes;
    }
    for (unsigned t = 0; t < threads; ++t) {
      Thread& thread = state.threads[size_t{b} * threads + t];
      thread.index = {t % launch.size.x, t / launch.size.x % launch.size.y, t / launch.size.x / launch.size.y};
      thread.block = &block;
      thread.warp = &block.warps[t / 32];
      thread.lane = int(t % 32);
      thread.done = false;
      thread.place = {};
      thread.copies = {};
      thread.stack = start_of(stack_of(int(b * threads + t)), body);
      state.ready.push_back(&thread);
    }
  }
}

}  // namespace

std::string run(const Launch& launch) {
  static std::mutex one;
  const std::lock_guard<std::mutex> lock(one);
  launched = &launch;
  prepare(launch);
  const Faults faults;
  Thread* const first = next();
  current = first;
  emu_switch(&state.outside, first->stack);
  current = nullptr;
  for (const Block& block : state.blocks)
    if (const char* const name = state.failure.empty() ? overrun(block.shared) : nullptr)
      state.failure = "block " + std::to_string(block.number) + " has written past " + name;
  return state.failure;
}

void fail(const char* format, ...) {
  char text[1000];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (current == nullptr) {
    fprintf(stderr, "emulator: %s\n", text);
    abort();
  }
  state.failure = thread_text(*current) + " at " + place_text(current->place) + ": " + text;
  leave_for(nullptr);
  abort();
}

void sleep(const Place& place) {
  current->place = place;
  turn();
}

void wake(Thread* thread) { state.ready.push_back(thread); }

void poll(const Place& place) {
  current->place = place;
  state.looking.push_back(current);
  turn();
}

void progress() { state.last_progress = state.rounds; }

void later(std::function<void()> work) { state.under_way.push({state.turns + random_bits() % kLongestCopy, std::move(work)}); }

uint64_t random_bits() {
  state.random ^= state.random << 13;
  state.random ^= state.random >> 7;
  state.random ^= state.random << 17;
  return state.random * 0x2545f4914f6cdd1dull;
}

uint64_t turns() { return state.turns; }
uint64_t nanoseconds() { return state.rounds * 100 + state.turns; }

void sync_grid(const Place& place) {
  Crossing& c = state.grid;
  if (++c.arrived < state.live) {
    c.waiting.push_back(current);
    sleep(place);
    return;
  }
  std::vector<Thread*> waiting;
  waiting.swap(c.waiting);
  c = {};
  progress();
  for (Thread* const thread : waiting) wake(thread);
}

}  // namespace emu
