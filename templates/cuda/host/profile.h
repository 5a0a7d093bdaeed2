// From the marks of a profile to its events: cycles of a multiprocessor become nanoseconds of the clock that all share.
#pragma once
#include <vector>

#include "abi.h"
#include "device.h"
#include "profile_marks.h"

/** One track; marks[0] is its head. Launches that did not come to their end are left out. */
inline void add_events(const ProfileMark* marks, int block, int role, std::vector<ProfileEvent>* events) {
  const auto count = static_cast<int64_t>(marks[0].time);
  const auto is_clock = [&](int64_t at) { return at < count && marks[at].what == kClockMark; };
  for (int64_t begin = 2; begin < count;) {
    int64_t end = begin + 1;
    while (end < count && !is_clock(end)) ++end;
    if (!is_clock(end)) return;
    // marks[begin - 1] and marks[begin], marks[end - 1] and marks[end]: the same moment by both clocks.
    const double cycles = static_cast<double>(marks[end - 1].time - marks[begin - 1].time);
    const double per_cycle = cycles > 0 ? static_cast<double>(marks[end].time - marks[begin].time) / cycles : 0;
    const auto nanoseconds = [&](int64_t at) {
      return static_cast<int64_t>(marks[begin].time) + static_cast<int64_t>(per_cycle * static_cast<double>(marks[at].time - marks[begin - 1].time));
    };
    int64_t last = nanoseconds(begin - 1);
    for (int64_t at = begin + 1; at + 1 < end; ++at) {
      const ProfileMark& mark = marks[at];
      const int64_t now = nanoseconds(at);
      events->push_back({last, now, block, role, static_cast<int32_t>(mark.what >> 16 & 255), static_cast<int32_t>(mark.what & 0xffff),
                         static_cast<int32_t>(mark.what >> 24), mark.position});
      last = now;
    }
    begin = end + 2;  // a launch begins with a mark of cycles and one of the clock
  }
}

/** All tracks of a launch's blocks, which are empty from then on. */
inline void take_events(ProfileMark* device, int blocks, const int (&roles)[kBlockTracks], std::vector<ProfileEvent>* events, int64_t* missed,
                        cudaStream_t stream) {
  std::vector<ProfileMark> marks(kTrackMarks);
  for (int track = 0; track < blocks * kBlockTracks; ++track) {
    ProfileMark* const from = device + int64_t{track} * kTrackMarks;
    CUDA(cudaMemcpyAsync(marks.data(), from, sizeof(ProfileMark), cudaMemcpyDeviceToHost, stream));
    CUDA(cudaStreamSynchronize(stream));
    const ProfileMark head = marks[0];
    if (head.time == 0) continue;
    CUDA(cudaMemcpyAsync(marks.data(), from, sizeof(ProfileMark) * head.time, cudaMemcpyDeviceToHost, stream));
    CUDA(cudaMemsetAsync(from, 0, sizeof(ProfileMark), stream));
    CUDA(cudaStreamSynchronize(stream));
    *missed += head.what;
    add_events(marks.data(), track / kBlockTracks, roles[track % kBlockTracks], events);
  }
}
