// Uploads of weight slabs to a device while a model is loaded.
//
// The loader's threads read slabs. Each takes a free lane, copies its slab into the lane's page-locked memory, and
// queues the copy to the device and the packing kernel on the lane's stream; while the lane works, the thread reads the
// next slab. Memory in flight is that of the lanes, whatever the size of the model.
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
  // Device addresses of the parts; null for an empty one.
  using Addresses = std::vector<void*>;
  using Queue = std::function<void(Stream& stream, const Addresses& parts)>;

  // Bytes of device memory for slabs of `slab_bytes`.
  static size_t device_bytes(size_t slab_bytes) { return lanes * lane_bytes(slab_bytes); }

  // `memory`: device_bytes() bytes of the device that nothing else uses while this object lives.
  SlabUploads(Device& device, void* memory, size_t slab_bytes);

  // From any thread; waits until a lane is free. `queue` queues the work on the uploaded parts. Throws what failed on
  // the device, possibly with an earlier slab.
  void upload(const std::vector<Part>& parts, const Queue& queue);

  // Waits for all slabs; throws what failed.
  void finish();

 private:
  static constexpr int lanes = 4, max_parts = 4;
  static size_t lane_bytes(size_t slab_bytes) { return gpu::counted(slab_bytes) + max_parts * gpu::granularity; }

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
