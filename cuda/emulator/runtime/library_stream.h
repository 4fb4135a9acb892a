// An emulated stream as a collectives library sees it, without any symbol of ours: for the tests' fake NCCL.
#pragma once
#include <cstddef>

namespace billfish::emulator {

struct LibraryStream {
  void* stream;

  // Queues work(argument), whose false fails the stream. Whatever becomes of the queue, release(argument) is called.
  void (*enqueue)(void* stream, bool (*work)(void* argument), void* argument, void (*release)(void* argument));

  // Marks what is queued so far.
  void* (*mark)(void* stream);
  // From work of any stream: runs what is before the mark, or waits until it has been; false where that failed.
  bool (*reach)(void* mark);
  void (*forget)(void* mark);

  // The bytes behind an address of the stream's device, as the host sees them; null where they are not all in one
  // allocation, or `reads` and one was never written. What is not read counts as written.
  std::byte* (*bytes)(void* stream, const void* address, size_t count, bool reads);
};

}  // namespace billfish::emulator
