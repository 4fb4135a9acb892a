#include "cpu/host_memory.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "engine/error.h"

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#define BILLFISH_HAS_MMAP 1
#endif

namespace billfish::cpu {
namespace {

constexpr size_t huge_page = size_t{2} << 20;

[[noreturn]] void out_of_memory(size_t bytes, const std::string& device) {
  throw Error("OUT_OF_MEMORY",
              "Device " + device + " has no " + std::to_string(bytes) +
                  " bytes left. Use a smaller maxModelLength or maxSequences, or move layers to another "
                  "device with deviceMap.");
}

}  // namespace

HostMemory HostMemory::allocate(size_t bytes, const std::string& device) {
  HostMemory memory;
  if (bytes > SIZE_MAX - huge_page) out_of_memory(bytes, device);
  memory.bytes_ = counted(bytes);
#ifdef BILLFISH_HAS_MMAP
  if (memory.bytes_ >= huge_page) {
    void* data = mmap(nullptr, memory.bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (data == MAP_FAILED) out_of_memory(bytes, device);
#ifdef MADV_HUGEPAGE
    madvise(data, memory.bytes_, MADV_HUGEPAGE);  // only a hint: without huge pages it is slower, not wrong
#endif
    memory.data_ = data;
    memory.mapped_ = memory.bytes_;
    return memory;
  }
#endif
  memory.data_ = ::operator new (memory.bytes_ ? memory.bytes_ : alignment, std::align_val_t{alignment}, std::nothrow);
  if (!memory.data_) out_of_memory(bytes, device);
  std::memset(memory.data_, 0, memory.bytes_);
  return memory;
}

HostMemory::HostMemory(HostMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      mapped_(std::exchange(other.mapped_, 0)) {}

HostMemory& HostMemory::operator=(HostMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(mapped_, other.mapped_);
  return *this;
}

HostMemory::~HostMemory() {
  if (!data_) return;
#ifdef BILLFISH_HAS_MMAP
  if (mapped_) {
    munmap(data_, mapped_);
    return;
  }
#endif
  ::operator delete (data_, std::align_val_t{alignment});
}

}  // namespace billfish::cpu
