// Fibers: stacks that one OS thread switches between by hand. Each CUDA thread is a fiber.
//
// On x86-64 a switch is a dozen instructions (fiber.cc); elsewhere it is swapcontext, which also makes a system call
// for the signal mask. AddressSanitizer and ThreadSanitizer are told about every switch.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

namespace billfish::emulator {

class Fiber {
 public:
  // A fiber without its own stack: the running thread.
  Fiber();
  // A fiber that can be started. Its stack is aligned to its size, which reserves only addresses: memory is what is
  // touched. It ends in a guard page.
  struct OwnStack {};
  explicit Fiber(OwnStack);
  static constexpr size_t stack_bytes = 256 * 1024;
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // The next switch to this fiber calls entry(), which must not return and must let no exception out. What was on the
  // stack before is forgotten, not destroyed.
  void start(void (*entry)());

  // Leaves this fiber, which runs, for another; returns when somebody switches back.
  void switch_to(Fiber& other);

  // The fiber's occupant. Code on a fiber with its own stack finds it from its frame address, which is faster than a
  // thread-local variable of a shared library.
  void set_occupant(void* occupant);
  static void* occupant() {
    return *reinterpret_cast<void**>((frame_address() | (stack_bytes - 1)) + 1 - occupant_place);
  }

  // To be called first by an entry: completes the switch to it.
  void entered();

 private:
  static constexpr size_t occupant_place = 16;  // below the stack's upper end
  static uintptr_t frame_address() {
#ifdef __x86_64__
    uintptr_t address;
    asm("movq %%rsp, %0" : "=r"(address));
    return address;
#else
    return reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
#endif
  }

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace billfish::emulator
