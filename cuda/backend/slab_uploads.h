// Slabs of weights on their way to a device, while a model is loaded.
//
// The loader's threads read slabs; each takes a free lane, copies its slab into the lane's page-locked memory, and
// queues on the lane's stream the copy to the device and the kernel that packs it there. While a lane is at work, the
// thread reads on. Memory in flight is that of the lanes, whatever the model's size.
#pragma once
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "runtime/memory.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

class SlabUploads {
 public:
  struct Part {
    const void* data;
    size_t bytes;
  };
  // Where the parts are on the device; null for one without bytes.
  using Addresses = std::vector<void*>;
  using Queue = std::function<void(Stream& stream, const Addresses& parts)>;

  // Bytes of device memory for slabs of so many bytes.
  static size_t device_bytes(size_t slab_bytes) { return lanes * lane_bytes(slab_bytes); }

  // `memory` is device_bytes() of the device that nobody else uses while this object lives.
  SlabUploads(Device& device, void* memory, size_t slab_bytes);

  // From any thread; waits until a lane is free. `queue` queues what is done with the parts once they are on the
  // device. Throws what failed there, maybe of a slab before this one.
  void upload(const std::vector<Part>& parts, const Queue& queue);

  // Waits for all slabs; throws what failed.
  void finish();

 private:
  static constexpr int lanes = 4, max_parts = 4;
  static size_t lane_bytes(size_t slab_bytes) {
    return DeviceMemory::counted(slab_bytes) + max_parts * DeviceMemory::granularity;
  }

  struct Lane {
    Lane(Device& device, void* memory, size_t bytes)
        : host(device, bytes), device_memory(memory), stream(device), sent(device) {}
    ~Lane();
    PinnedMemory host;
    void* device_memory;
    Stream stream;
    Event sent;  // the slab has left the page-locked memory
  };
  std::unique_ptr<Lane> acquire();
  void release(std::unique_ptr<Lane> lane);
  void fill(Lane& lane, const std::vector<Part>& parts, const Queue& queue) const;

  size_t lane_bytes_;
  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<std::unique_ptr<Lane>> free_;
};

}  // namespace billfish::BILLFISH_TARGET
