#include "engine/available_cores.h"

#include <algorithm>
#include <thread>

#ifdef __linux__
#include <sched.h>

#include <cmath>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>
#endif

namespace billfish {
namespace {

#ifdef __linux__

int cores_in_affinity_mask() {
  // The kernel refuses a mask smaller than its own, so grow until it fits.
  for (int capacity = 1024; capacity <= 1 << 20; capacity *= 2) {
    std::vector<cpu_set_t> mask(CPU_ALLOC_SIZE(capacity) / sizeof(cpu_set_t));
    const size_t bytes = mask.size() * sizeof(cpu_set_t);
    if (sched_getaffinity(0, bytes, mask.data()) == 0) return CPU_COUNT_S(bytes, mask.data());
  }
  return 0;
}

// The quota of one cgroup in cores, or infinity. cpu.max reads "<quota> <period>" in microseconds, or "max <period>".
double quota_of(const std::string& directory) {
  std::ifstream file(directory + "/cpu.max");
  double quota = 0, period = 0;
  if (!(file >> quota >> period) || quota <= 0 || period <= 0) return INFINITY;
  return quota / period;
}

// The tightest quota between this process' cgroup and the root: every ancestor's limit holds.
double cgroup_quota() {
  std::ifstream memberships("/proc/self/cgroup");
  std::string line, path;
  while (std::getline(memberships, line)) {
    if (line.rfind("0::", 0) == 0) path = line.substr(3);  // v2's single hierarchy
  }
  double quota = quota_of("/sys/fs/cgroup");
  while (path.size() > 1) {
    quota = std::min(quota, quota_of("/sys/fs/cgroup" + path));
    path.resize(path.rfind('/'));
  }
  return quota;
}

#endif

}  // namespace

int available_cores() {
  int cores = static_cast<int>(std::thread::hardware_concurrency());
#ifdef __linux__
  if (const int allowed = cores_in_affinity_mask(); allowed > 0) cores = allowed;
  const double quota = cgroup_quota();
  if (quota < cores) cores = static_cast<int>(std::ceil(quota));
#endif
  return std::max(cores, 1);
}

}  // namespace billfish
