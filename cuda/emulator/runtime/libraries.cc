#include "runtime/libraries.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "engine/error.h"
#include "machine/device.h"
#include "runtime/library_stream.h"
#include "runtime/queue.h"

namespace billfish::BILLFISH_TARGET {

const size_t max_tried_sum = 16 * 1024;  // longer ones would only take longer

const NcclLibrary& collective_library() {
  const NcclLibrary& named = nccl_library();
  if (named.requested && (named.emulated || !named.reason.empty())) return named;
  static const NcclLibrary& none = *[] {
    auto* const library = new NcclLibrary;
    library->reason = "emulated devices have no NCCL.";
    return library;
  }();
  return none;
}

static Stream& stream_of(void* stream) { return *static_cast<Stream*>(stream); }

static void enqueue(void* stream, bool (*work)(void*), void* argument, void (*release)(void*)) {
  const std::shared_ptr<void> held(argument, release);
  enqueue_waiting_work(stream_of(stream), [work, held] {
    if (!work(held.get())) throw Error("INTERNAL", "A collective failed.");
  });
}

using Mark = std::shared_ptr<Moment>;

static void* mark(void* stream) {
  Stream& marked = stream_of(stream);
  auto moment =
      std::make_shared<Moment>(Moment{&marked.state(), progress_of(marked.state().order), false, nullptr, {}});
  enqueue_entry(marked, {nullptr, nullptr, moment});
  return new Mark(std::move(moment));
}

static bool reach_mark(void* mark) {
  try {
    reach(**static_cast<Mark*>(mark));
    return true;
  } catch (...) {
    return false;  // whoever waits for that stream gets its error
  }
}

static void forget(void* mark) { delete static_cast<Mark*>(mark); }

static std::byte* bytes(void* stream, const void* address, size_t count, bool reads) {
  const emulator::AddressSpace& memory = emulator::device(stream_of(stream).device().index()).memory;
  const auto begin = reinterpret_cast<uintptr_t>(address);
  if (!memory.allocated(begin, count)) return nullptr;
  uint8_t* const written = memory.written_at(begin);
  if (reads && std::find(written, written + count, 0) != written + count) return nullptr;
  if (!reads) std::memset(written, emulator::AddressSpace::settled, count);
  return memory.bytes_at(begin);
}

void* library_stream(Stream& stream) {
  stream.state().for_libraries = {&stream, enqueue, mark, reach_mark, forget, bytes};
  return &stream.state().for_libraries;
}

void make_current(const Stream&) {}

std::unique_ptr<MatrixLibrary> open_matrix_library(Stream&, void*) { return nullptr; }

}  // namespace billfish::BILLFISH_TARGET
