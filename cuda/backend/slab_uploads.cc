#include "backend/slab_uploads.h"

#include <cstring>
#include <string>
#include <utility>

#include "engine/error.h"
#include "runtime/drain.h"

namespace billfish::BILLFISH_TARGET {

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
