#include "runtime/arena.h"

namespace billfish::BILLFISH_TARGET {

DeviceArena::DeviceArena(Device& device, size_t bytes) : device_(device), bytes_(gpu::in_pages(bytes)) {
  blocks_.emplace_back(device_, bytes_);
}

DeviceArena::~DeviceArena() = default;

void* DeviceArena::part(size_t offset, size_t) { return blocks_.front().as<char>(offset); }

}  // namespace billfish::BILLFISH_TARGET
