// A stage's weights: allocated on its device, and filled slab by slab while the model is loaded.
#pragma once
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "backend/stage_memory.h"
#include "engine/backend.h"
#include "operators/operator_context.h"
#include "runtime/memory.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// Uploads of weight slabs to a device while a model is loaded.
//
// The loader's threads read slabs. Each takes a free lane, copies its slab into the lane's page-locked memory, and
// queues the copy to the device and the packing kernel on the lane's stream; while the lane works, the thread reads the
// next slab. Memory in flight is that of the lanes, whatever the size of the model.
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
  static constexpr int lanes = 4, max_parts = 5;
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

// The functions are those of engine/backend.h.
class StageWeights {
 public:
  // `element_type`: of matrices on the device. Memory and stream belong to the stage and outlive this object.
  StageWeights(Stream& stream, StageMemory& memory, DType element_type)
      : stream_(stream), memory_(memory), element_type_(element_type) {}
  // Sets the bytes of the largest slab. Before any weight is filled.
  void set_slab_bytes(size_t bytes) { slab_bytes_ = bytes; }

  std::unique_ptr<Weight> make_vector(const std::vector<float>& values);
  std::unique_ptr<Weight> make_matrix(int64_t out, int64_t in, DType type, const std::vector<float>& bias);
  void fill_matrix(const Weight& weight, int64_t first, int64_t count, const void* rows);
  std::unique_ptr<Weight> make_quantized(const CanonicalShape& shape);
  void fill_quantized(const Weight& weight, const CanonicalRows& rows);
  void finish();

 private:
  void start_uploads();

  Stream& stream_;
  StageMemory& memory_;
  DType element_type_;
  size_t slab_bytes_ = 0;
  std::optional<SlabUploads> uploads_;
};

}  // namespace billfish::BILLFISH_TARGET
