// What a backend of either target is held to where positions of sequences are copied, read and written.
#pragma once
#include <algorithm>
#include <string>
#include <vector>

#include "cpu-check.h"
#include "host/backend.h"

/** @param context positions of each of three sequences or more; at least 18 */
inline void check_positions(Backend* backend, int32_t context) {
  Check check("positions of the cache are copied, read and written where they lie, and nowhere else");
  std::string error;
  const int64_t bytes = backend_position_bytes(backend);
  const auto pattern = [&](int32_t count, int seed) {
    std::vector<char> made(count * bytes);
    for (size_t i = 0; i < made.size(); ++i) made[i] = static_cast<char>((i * 7 + seed) % 251);
    return made;
  };
  const auto read = [&](int32_t slot, int32_t position, int32_t count) {
    std::vector<char> made(count * bytes);
    check.equal(backend_read_positions(backend, slot, position, count, made.data(), &error), kStatusOk);
    return made;
  };
  std::vector<char> all[3];
  for (int32_t slot = 0; slot < 3; ++slot) {
    all[slot] = pattern(context, 100 * slot);
    check.equal(backend_write_positions(backend, slot, 0, context, all[slot].data(), &error), kStatusOk);
  }
  for (int32_t slot = 0; slot < 3; ++slot) check.that(read(slot, 0, context) == all[slot]);

  const std::vector<char> behind = read(2, 13, context - 13);
  check.equal(backend_copy_positions(backend, 1, 2, 13, &error), kStatusOk);
  check.that(read(2, 9, 4) == read(1, 9, 4) && read(2, 0, 13) == read(1, 0, 13));
  check.that(read(2, 13, context - 13) == behind);
  check.equal(backend_copy_positions(backend, 0, 2, 0, &error), kStatusOk);
  check.that(read(2, 0, 13) == read(1, 0, 13) && read(0, 0, context) == all[0]);

  const std::vector<char> some = pattern(4, 31), first = read(2, 0, 13), last = read(2, 17, context - 17);
  check.equal(backend_write_positions(backend, 2, 13, 4, some.data(), &error), kStatusOk);
  check.that(read(2, 13, 4) == some && read(2, 0, 13) == first && read(2, 17, context - 17) == last);
  check.that(read(1, 0, context) == all[1]);
}
