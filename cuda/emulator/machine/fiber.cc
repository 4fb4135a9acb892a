#include "machine/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <new>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BILLFISH_ASAN
#endif
#if __has_feature(thread_sanitizer)
#define BILLFISH_TSAN
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define BILLFISH_ASAN
#endif
#if defined(__SANITIZE_THREAD__)
#define BILLFISH_TSAN
#endif

#ifdef BILLFISH_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef BILLFISH_TSAN
#include <sanitizer/tsan_interface.h>
#endif
// BILLFISH_PORTABLE_FIBERS takes the other way on x86-64, too, to test it.
#if defined(__x86_64__) && !defined(BILLFISH_PORTABLE_FIBERS)
#define BILLFISH_SWITCH_STACK
#else
#include <ucontext.h>
#endif

#ifdef BILLFISH_SWITCH_STACK
// Saves the registers that a call must preserve on the stack that is left, notes where, and takes those of the other
// stack. To the compiler it is an ordinary call that returns late. The floating-point modes are the same in all fibers.
extern "C" void billfish_switch_stack(void** left, void* entered);
asm(R"(
.pushsection .text
.globl billfish_switch_stack
.hidden billfish_switch_stack
.type billfish_switch_stack, @function
billfish_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size billfish_switch_stack, .-billfish_switch_stack
.popsection
)");
#endif

namespace billfish::emulator {

struct Fiber::State {
  char* mapping = nullptr;  // the guard page, the stack, the occupant
  const void* stack = nullptr;
  size_t stack_bytes = 0;
#ifdef BILLFISH_SWITCH_STACK
  void* stack_pointer = nullptr;  // while another fiber runs
#else
  ucontext_t context = {};
#endif
#ifdef BILLFISH_ASAN
  void* fake_stack = nullptr;
#endif
#ifdef BILLFISH_TSAN
  void* tsan_fiber = nullptr;
#endif
};

#ifdef BILLFISH_ASAN
// The fiber that the current switch leaves: AddressSanitizer reveals its stack bounds only on arrival.
static thread_local Fiber* left_fiber = nullptr;
#endif

Fiber::Fiber() : state_(new State) {
#ifdef BILLFISH_TSAN
  state_->tsan_fiber = __tsan_get_current_fiber();
#endif
}

Fiber::Fiber(OwnStack) : state_(new State) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* mapping = mmap(nullptr, 2 * stack_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (mapping == MAP_FAILED) throw std::bad_alloc();
  // Of twice the addresses, keeps those between two multiples.
  auto* const begin = static_cast<char*>(mapping);
  const size_t before = stack_bytes - reinterpret_cast<uintptr_t>(begin) % stack_bytes;
  state_->mapping = begin + before;
  munmap(begin, before);
  if (before < stack_bytes) munmap(begin + before + stack_bytes, stack_bytes - before);
  if (mprotect(state_->mapping, page, PROT_NONE) != 0) throw std::bad_alloc();
  state_->stack = state_->mapping + page;
  state_->stack_bytes = stack_bytes - page - occupant_place;
}

Fiber::~Fiber() {
  if (state_->mapping == nullptr) return;
#ifdef BILLFISH_TSAN
  if (state_->tsan_fiber != nullptr) __tsan_destroy_fiber(state_->tsan_fiber);
#endif
#ifdef BILLFISH_ASAN
  __asan_unpoison_memory_region(state_->stack, state_->stack_bytes);
#endif
  munmap(state_->mapping, stack_bytes);
}

void Fiber::set_occupant(void* occupant) {
  std::memcpy(state_->mapping + stack_bytes - occupant_place, &occupant, sizeof(occupant));
}

void Fiber::start(void (*entry)()) {
#ifdef BILLFISH_ASAN
  __asan_unpoison_memory_region(state_->stack, state_->stack_bytes);  // frames that were left without a return
  state_->fake_stack = nullptr;
#endif
#ifdef BILLFISH_TSAN
  if (state_->tsan_fiber != nullptr) __tsan_destroy_fiber(state_->tsan_fiber);
  state_->tsan_fiber = __tsan_create_fiber(0);
#endif
#ifdef BILLFISH_SWITCH_STACK
  // As if entry() had just been called, after six registers were pushed: at a function's first instruction the stack
  // pointer is 8 below a multiple of 16.
  auto* top = reinterpret_cast<uintptr_t*>(state_->mapping + stack_bytes - occupant_place);
  *--top = 0;  // the return address of entry(), which never returns
  *--top = reinterpret_cast<uintptr_t>(entry);
  for (int saved = 0; saved < 6; ++saved) *--top = 0;
  state_->stack_pointer = top;
#else
  getcontext(&state_->context);
  state_->context.uc_stack.ss_sp = const_cast<void*>(state_->stack);
  state_->context.uc_stack.ss_size = state_->stack_bytes;
  state_->context.uc_link = nullptr;
  makecontext(&state_->context, entry, 0);
#endif
}

void Fiber::switch_to(Fiber& other) {
#ifdef BILLFISH_ASAN
  left_fiber = this;
  __sanitizer_start_switch_fiber(&state_->fake_stack, other.state_->stack, other.state_->stack_bytes);
#endif
#ifdef BILLFISH_TSAN
  __tsan_switch_to_fiber(other.state_->tsan_fiber, 0);
#endif
#ifdef BILLFISH_SWITCH_STACK
  billfish_switch_stack(&state_->stack_pointer, other.state_->stack_pointer);
#else
  swapcontext(&state_->context, &other.state_->context);
#endif
  entered();
}

void Fiber::entered() {
#ifdef BILLFISH_ASAN
  State& left = *left_fiber->state_;
  const void* bottom = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(state_->fake_stack, &bottom, &bytes);
  if (left.mapping == nullptr) {
    left.stack = bottom;
    left.stack_bytes = bytes;
  }
#endif
}

}  // namespace billfish::emulator
