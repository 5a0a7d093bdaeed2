// One thread of a team that is alone, for tests of what its stages call. Included behind lib/lib.h, whose constants each test sets.
#pragma once
#include <cmath>
#include <cstdint>
#include <vector>

struct Bench {
  Team team{};
  std::vector<float> memory = std::vector<float>(1 << 20, NAN);  // scratch begins as garbage
  Block block{&team, 0, nullptr};
  Bench() {
    team.count = 1;
    block.scratch = memory.data() + (128 - reinterpret_cast<uintptr_t>(memory.data()) % 128) / sizeof(float);
  }
};
