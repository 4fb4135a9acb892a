#include "runtime/arena.h"

#include "machine/device.h"
#include "runtime/out_of_memory.h"
#include "runtime/queue.h"

namespace billfish::BILLFISH_TARGET {

DeviceArena::DeviceArena(Device& device, size_t bytes) : device_(device), bytes_(gpu::in_pages(bytes)) {
  device.check_not_lost();
  refuse_while_capturing("An allocation of device memory");
  if (!emulator::device(device.index()).memory.reserve(bytes_)) throw out_of_memory(device, bytes_);
}

DeviceArena::~DeviceArena() {
  blocks_.clear();
  emulator::device(device_.index()).memory.unreserve(bytes_);
}

void* DeviceArena::part(size_t, size_t bytes) {
  if (bytes == 0) return nullptr;
  DeviceMemory& block = blocks_.emplace_back();
  block.device_ = &device_;
  block.bytes_ = bytes;
  block.data_ = reinterpret_cast<void*>(emulator::device(device_.index()).memory.allocate_reserved(bytes));
  return block.data_;
}

}  // namespace billfish::BILLFISH_TARGET
