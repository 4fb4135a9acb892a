// Pages of mapped files that cannot be read: the file has become shorter since it was mapped, or its disk or network
// has failed. Reading one is a bus error (SIGBUS), which ends the process. While a mapping is watched here, such pages
// are replaced by zeros instead, and the mapping is marked, for whoever reads it to look at when done.
//
// The handler of the signal is there only while anything is watched, and leaves all other addresses, and signals that
// another process sends, to the handler before it.
#pragma once
#include <atomic>
#include <cstddef>

namespace billfish {

struct GuardedMapping;

class SigbusGuard {
 public:
  // Of [begin, begin + bytes), which begins at a page and stays mapped as long as this object.
  SigbusGuard(const void* begin, size_t bytes);
  ~SigbusGuard();
  SigbusGuard(const SigbusGuard&) = delete;
  SigbusGuard& operator=(const SigbusGuard&) = delete;

  // Whether a page was read that could not be: what was read since then may be zeros.
  bool has_faulted() const noexcept;

 private:
  GuardedMapping* mapping_;
};

}  // namespace billfish
