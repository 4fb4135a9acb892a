// An emulated stream as a collectives library sees it, without any symbol of ours: for the tests' fake NCCL.
#pragma once
#include <cstddef>

namespace billfish::emulator {

struct LibraryStream {
  void* stream;

  // Queues work(argument), whose false fails the stream. Whatever becomes of the queue, release(argument) is called.
  void (*enqueue)(void* stream, bool (*work)(void* argument), void* argument, void (*release)(void* argument));

  // Marks the work queued so far.
  void* (*mark)(void* stream);
  // Called from work of any stream: runs the work before the mark, or waits for it; false if it failed.
  bool (*reach)(void* mark);
  void (*forget)(void* mark);

  // The bytes at a device address, as the host sees them; null if they are not within one allocation, or if `reads` and
  // some were never written. Without `reads` they count as written from now on.
  std::byte* (*bytes)(void* stream, const void* address, size_t count, bool reads);
};

}  // namespace billfish::emulator
