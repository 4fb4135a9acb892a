#include "checkpoint/sigbus_guard.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <mutex>

namespace billfish {

// A list that only grows, and whose members are reused: the handler may walk it at any time.
struct GuardedMapping {
  std::atomic<uintptr_t> begin{0};  // 0: unused
  std::atomic<uintptr_t> end{0};
  std::atomic<bool> has_faulted{false};
  GuardedMapping* next = nullptr;
};

namespace {

std::atomic<GuardedMapping*> first_mapping{nullptr};
static_assert(std::atomic<uintptr_t>::is_always_lock_free, "a signal handler reads them");

std::mutex mutex;  // guards what follows; the handler reads `previous` while it is installed
size_t watched = 0;
bool is_below_another = false;
struct sigaction previous;

// Maps zeros from the page of `address` to the end of the mapping: if one page is unreadable, the following ones
// usually are too.
bool replace_pages(uintptr_t address) {
  for (GuardedMapping* mapping = first_mapping.load(std::memory_order_acquire); mapping; mapping = mapping->next) {
    const uintptr_t begin = mapping->begin.load(std::memory_order_acquire);
    const uintptr_t end = mapping->end.load(std::memory_order_acquire);
    if (begin == 0 || address < begin || address >= end) continue;
    mapping->has_faulted.store(true, std::memory_order_release);
    const uintptr_t page = address & ~(static_cast<uintptr_t>(sysconf(_SC_PAGESIZE)) - 1);
    void* const zeros = mmap(reinterpret_cast<void*>(page), end - page, PROT_READ,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    return zeros != MAP_FAILED;
  }
  return false;
}

// Does what would have happened without this handler.
void leave_to_previous(int signal, siginfo_t* info, void* context) {
  if ((previous.sa_flags & SA_SIGINFO) != 0) {
    previous.sa_sigaction(signal, info, context);
  } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(signal);
  } else if (info->si_code > 0 || previous.sa_handler == SIG_DFL) {
    // A fault is fatal even if the signal is ignored. It recurs on return; a signal that was sent is sent again.
    std::signal(signal, SIG_DFL);
    if (info->si_code <= 0) raise(signal);
  }
}

void on_bus_error(int signal, siginfo_t* info, void* context) {
  const int error = errno;
  const bool is_replaced = info->si_code > 0 && replace_pages(reinterpret_cast<uintptr_t>(info->si_addr));
  if (!is_replaced) leave_to_previous(signal, info, context);
  errno = error;
}

bool is_ours(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == on_bus_error;
}

void install_handler() {
  struct sigaction current = {};
  sigaction(SIGBUS, nullptr, &current);
  if (is_ours(current) || is_below_another) return;
  previous = current;  // before the handler may read it
  struct sigaction action = {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, nullptr);
}

// A handler installed over this one may call it, so it stays: reinstalling this one on top would make a loop.
void remove_handler() {
  struct sigaction current = {};
  sigaction(SIGBUS, nullptr, &current);
  is_below_another = !is_ours(current);
  if (!is_below_another) sigaction(SIGBUS, &previous, nullptr);
}

GuardedMapping* unused_mapping() {
  for (GuardedMapping* mapping = first_mapping.load(); mapping; mapping = mapping->next) {
    if (mapping->begin.load() == 0) return mapping;
  }
  auto* const mapping = new GuardedMapping;  // never deleted
  mapping->next = first_mapping.load();
  first_mapping.store(mapping, std::memory_order_release);
  return mapping;
}

}  // namespace

SigbusGuard::SigbusGuard(const void* begin, size_t bytes) {
  const std::lock_guard lock(mutex);
  if (watched == 0) install_handler();
  mapping_ = unused_mapping();
  mapping_->has_faulted = false;
  mapping_->end = reinterpret_cast<uintptr_t>(begin) + bytes;
  mapping_->begin = reinterpret_cast<uintptr_t>(begin);
  ++watched;
}

SigbusGuard::~SigbusGuard() {
  const std::lock_guard lock(mutex);
  mapping_->begin = 0;
  if (--watched == 0) remove_handler();
}

bool SigbusGuard::has_faulted() const noexcept { return mapping_->has_faulted.load(std::memory_order_acquire); }

}  // namespace billfish
