// Guards mapped files against SIGBUS: reading a page of a file that was truncated after it was mapped, or whose disk or
// network has failed, would kill the process. While a mapping is guarded, such pages are replaced by zeros and the
// mapping is marked, for its reader to check when done.
//
// The signal handler is installed only while something is guarded, and passes faults at other addresses, and signals
// sent by other processes, to the previous handler.
#pragma once
#include <atomic>
#include <cstddef>

namespace billfish {

struct GuardedMapping;

class SigbusGuard {
 public:
  // Guards [begin, begin + bytes), which starts at a page and must stay mapped as long as this object lives.
  SigbusGuard(const void* begin, size_t bytes);
  ~SigbusGuard();
  SigbusGuard(const SigbusGuard&) = delete;
  SigbusGuard& operator=(const SigbusGuard&) = delete;

  // Whether an unreadable page was read: data read since then may be zeros.
  bool has_faulted() const noexcept;

 private:
  GuardedMapping* mapping_;
};

}  // namespace billfish
