#include "backend/stage_weights.h"

#include <cstring>
#include <string>
#include <utility>

#include "engine/error.h"

namespace billfish::BILLFISH_TARGET {

std::unique_ptr<Weight> StageWeights::make_vector(const std::vector<float>& values) {
  auto weight = std::make_unique<VectorWeight>();
  const size_t bytes = values.size() * sizeof(float);
  weight->values = static_cast<float*>(memory_.allocate(bytes, MemoryUse::weights));
  stream_.copy_to_device(weight->values, values.data(), bytes);
  return weight;
}

std::unique_ptr<Weight> StageWeights::make_matrix(int64_t out, int64_t in, DType type, const std::vector<float>& bias) {
  start_uploads();
  auto weight = std::make_unique<MatrixWeight>();
  void* block = memory_.allocate(matrix_bytes(out, in, !bias.empty()), MemoryUse::weights);
  weight->linear = lay_out_matrix(stream_, out, in, element_type_, bias, block);
  weight->stored_type = type;
  return weight;
}

void StageWeights::fill_matrix(const Weight& weight, int64_t first, int64_t count, const void* rows) {
  const auto& matrix = static_cast<const MatrixWeight&>(weight);
  const size_t bytes = static_cast<size_t>(count * matrix.linear.in) * byte_size(matrix.stored_type);
  uploads_->upload({{rows, bytes}}, [&](Stream& stream, const SlabUploads::Addresses& parts) {
    BILLFISH_TARGET::fill_matrix(stream, matrix.linear, first, count, matrix.stored_type, parts[0]);
  });
}

std::unique_ptr<Weight> StageWeights::make_quantized(const CanonicalShape& shape) {
  start_uploads();
  auto weight = std::make_unique<MatrixWeight>();
  void* block = memory_.allocate(quantized_bytes(shape), MemoryUse::weights);
  weight->linear = lay_out_quantized(stream_, shape, block);
  return weight;
}

void StageWeights::fill_quantized(const Weight& weight, const CanonicalRows& rows) {
  const auto part = [](const auto& values) {
    return SlabUploads::Part{values.data(), values.size() * sizeof(values[0])};
  };
  uploads_->upload({part(rows.codes), part(rows.scales), part(rows.zeros), part(rows.output_scales), part(rows.bias)},
                   [&](Stream& stream, const SlabUploads::Addresses& parts) {
                     BILLFISH_TARGET::fill_quantized(
                         stream, static_cast<const MatrixWeight&>(weight).linear,
                         {rows.first, rows.count, static_cast<const uint32_t*>(parts[0]), parts[1],
                          static_cast<const uint8_t*>(parts[2]), static_cast<const float*>(parts[3]),
                          static_cast<const float*>(parts[4])});
                   });
}

void StageWeights::finish() {
  if (uploads_) {
    uploads_->finish();
    uploads_.reset();
    memory_.return_borrowed();
  }
  stream_.synchronize();
}

// Slabs are staged in memory that is unused until the model runs.
void StageWeights::start_uploads() {
  if (uploads_) return;
  void* memory = memory_.borrow(SlabUploads::device_bytes(slab_bytes_));
  stream_.synchronize();  // it has been zeroed
  uploads_.emplace(stream_.device(), memory, slab_bytes_);
}

// --- Uploads.

SlabUploads::Lane::~Lane() { drain(stream); }

SlabUploads::SlabUploads(Device& device, void* memory, size_t slab_bytes) : lane_bytes_(lane_bytes(slab_bytes)) {
  for (int i = 0; i < lanes; ++i) {
    free_.push_back(std::make_unique<Lane>(device, static_cast<std::byte*>(memory) + i * lane_bytes_, lane_bytes_));
  }
}

std::unique_ptr<SlabUploads::Lane> SlabUploads::acquire() {
  std::unique_lock lock(mutex_);
  returned_.wait(lock, [&] { return !free_.empty(); });
  std::unique_ptr<Lane> lane = std::move(free_.front());  // returned first, so most likely idle
  free_.erase(free_.begin());
  return lane;
}

void SlabUploads::release(std::unique_ptr<Lane> lane) {
  {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(lane));
  }
  returned_.notify_one();
}

void SlabUploads::upload(const std::vector<Part>& parts, const Queue& queue) {
  std::unique_ptr<Lane> lane = acquire();
  try {
    fill(*lane, parts, queue);
  } catch (...) {
    release(std::move(lane));
    throw;
  }
  release(std::move(lane));
}

void SlabUploads::fill(Lane& lane, const std::vector<Part>& parts, const Queue& queue) const {
  lane.sent.synchronize();
  Addresses addresses;
  size_t offset = 0;
  for (const Part& part : parts) {
    if (part.bytes == 0) {
      addresses.push_back(nullptr);
      continue;
    }
    if (offset + part.bytes > lane_bytes_) {
      throw Error("INTERNAL", "A slab of weights for " + lane.stream.device().name() + " is larger than the " +
                                  std::to_string(lane_bytes_) + " bytes that its shape takes at most.");
    }
    void* const host = lane.host.as<std::byte>(offset);
    std::memcpy(host, part.data, part.bytes);
    addresses.push_back(static_cast<std::byte*>(lane.device_memory) + offset);
    lane.stream.copy_to_device(addresses.back(), host, part.bytes);
    offset += gpu::counted(part.bytes);
  }
  lane.stream.record(lane.sent);
  queue(lane.stream, addresses);
}

void SlabUploads::finish() {
  for (const std::unique_ptr<Lane>& lane : free_) lane->stream.synchronize();
}

}  // namespace billfish::BILLFISH_TARGET
