// Fibers: stacks between which one thread of the operating system switches by hand. One fiber runs one CUDA thread.
//
// On x86-64 a switch is a dozen instructions (fiber.cc); elsewhere it is swapcontext, which also asks the kernel about
// signals. AddressSanitizer and ThreadSanitizer are told of every switch.
#pragma once
#include <cstddef>
#include <memory>

namespace billfish::emulator {

class Fiber {
 public:
  // A fiber without a stack of its own: the thread that runs already.
  Fiber();
  // A fiber that can be started; its stack ends in a page that faults.
  explicit Fiber(size_t stack_bytes);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // The next switch to this fiber calls entry(), which must not return and must let no exception out. What was on the
  // stack before is forgotten, not destroyed.
  void start(void (*entry)());

  // Leaves this fiber, which runs, for another; returns when somebody switches back.
  void switch_to(Fiber& other);

  // To be called first by an entry: completes the switch to it.
  void entered();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace billfish::emulator
