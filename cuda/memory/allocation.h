// How a GPU's memory is given out. This folder is plain C++ without a device: the backend allocates by it, and plans
// count with it, in builds without CUDA, too.
#pragma once
#include <cstddef>
#include <cstdint>

namespace billfish::gpu {

// Allocations, and the parts of larger ones, are counted in multiples of this, and start at one.
constexpr size_t granularity = 256;
constexpr size_t counted(size_t bytes) { return (bytes + granularity - 1) / granularity * granularity; }

// Devices hand out physical memory in pages of this size: an allocation costs the device whole ones.
constexpr size_t page = size_t{2} << 20;
constexpr size_t in_pages(size_t bytes) { return (bytes + page - 1) / page * page; }

// Sections one after the other, each at a multiple of `granularity`.
class Sections {
 public:
  // The place of `count` elements of `element_bytes` bytes.
  size_t take(size_t count, size_t element_bytes) {
    const size_t at = end_;
    end_ += counted(count * element_bytes);
    return at;
  }
  template <class T>
  size_t take(size_t count) {
    return take(count, sizeof(T));
  }
  size_t end() const { return end_; }

 private:
  size_t end_ = 0;
};

}  // namespace billfish::gpu
