// How many threads a team has where nobody says: physical cores that this process may use.
#pragma once
#include <sched.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <string>
#include <thread>

inline bool read_text(const std::string& path, std::string* text) {
  FILE* file = fopen(path.c_str(), "re");
  if (!file) return false;
  char line[256];
  const size_t length = fread(line, 1, sizeof line - 1, file);
  fclose(file);
  text->assign(line, length);
  return true;
}

/** CPUs' worth of time that the control group grants; a large number if it does not say. */
inline int granted_cpus() {
  std::string text;
  long long quota = -1, period = 100000;
  if (read_text("/sys/fs/cgroup/cpu.max", &text)) {
    if (sscanf(text.c_str(), "%lld %lld", &quota, &period) < 1) quota = -1;  // "max": no limit
  } else if (read_text("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", &text)) {
    quota = atoll(text.c_str());
    if (read_text("/sys/fs/cgroup/cpu/cpu.cfs_period_us", &text)) period = atoll(text.c_str());
  }
  if (quota <= 0 || period <= 0) return 1 << 20;
  return static_cast<int>((quota + period - 1) / period);
}

/** Physical cores among the CPUs that this process may use. */
inline int usable_cores() {
  // The kernel refuses a mask smaller than its own, so grow it.
  for (int cpus = 1024; cpus <= 1 << 16; cpus *= 4) {
    cpu_set_t* mask = CPU_ALLOC(cpus);
    if (!mask) break;
    const size_t size = CPU_ALLOC_SIZE(cpus);
    if (sched_getaffinity(0, size, mask) != 0) {
      CPU_FREE(mask);
      continue;
    }
    std::set<std::string> cores;  // a core is named by the list of its hardware threads
    for (int cpu = 0; cpu < cpus; ++cpu) {
      if (!CPU_ISSET_S(cpu, size, mask)) continue;
      std::string siblings;
      const std::string topology = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
      if (!read_text(topology + "thread_siblings_list", &siblings)) siblings = std::to_string(cpu);
      cores.insert(siblings);
    }
    CPU_FREE(mask);
    if (!cores.empty()) return std::min(static_cast<int>(cores.size()), granted_cpus());
  }
  return std::min(std::max(1, static_cast<int>(std::thread::hardware_concurrency())), granted_cpus());
}
