// The process-wide pool for all CPU work: operators of every stage, and conversion at load time.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>

namespace billfish {

// A caller of parallel_for takes part in its own work; helper threads join while fewer than threads() threads compute.
// Several stages may call at the same time: then helpers spread over the calls, and callers and helpers together never
// exceed threads() running threads.
class ThreadPool {
 public:
  // 1 to 1024 threads, callers included: a pool of one has no helper. Throws INVALID_OPTION, or OUT_OF_MEMORY if the
  // system cannot create the threads.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // The pool of this process, created on first use with one thread per core that the process may use (affinity and
  // cgroup quota considered), or BILLFISH_THREADS (1 to 1024; anything else throws INVALID_OPTION, on every call).
  // Never destroyed: its threads simply end with the process. A forked child has no helpers and must not use it.
  static ThreadPool& shared();

  int threads() const noexcept;

  // Calls body(begin, end) over pieces of [0, count), each a multiple of `grain` except the last, and returns when all
  // are done. `body` must not throw. Nested calls run serially in the calling thread. A region of one piece (count <=
  // grain) is an ordinary call: it wakes no helpers and does not count as a computing thread.
  template <class Body>
  void parallel_for(int64_t count, int64_t grain, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    run(
        count, grain, [](void* context, int64_t begin, int64_t end) { (*static_cast<Plain*>(context))(begin, end); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  using Function = void (*)(void* context, int64_t begin, int64_t end);
  void run(int64_t count, int64_t grain, Function function, void* context);
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace billfish
