#include "runtime/memory.h"

#include <cstring>

#include "machine/device.h"
#include "runtime/queue.h"

namespace billfish::BILLFISH_TARGET {

DeviceMemory::DeviceMemory(Device& device, size_t bytes) : MemoryBlock(device, bytes) {
  if (bytes == 0) return;
  device.check_not_lost();
  refuse_while_capturing("An allocation of device memory");
  data_ = reinterpret_cast<void*>(emulator::device(device.index()).memory.allocate(bytes));
  if (data_ == nullptr) throw out_of_memory(device, gpu::in_pages(bytes));
}

DeviceMemory::~DeviceMemory() {
  if (data_ == nullptr) return;
  finish_all(*device_);  // as cudaFree does
  forget_copies(data_, bytes_);
  emulator::device(device_->index()).memory.release(reinterpret_cast<uintptr_t>(data_));
}

PinnedMemory::PinnedMemory(const Device& device, size_t bytes) : MemoryBlock(device, bytes) {
  if (bytes == 0) return;
  refuse_while_capturing("An allocation of page-locked memory");
  data_ = ::operator new (bytes, std::align_val_t{4096});
  std::memset(data_, 0xff, bytes);
  note_pinned(data_, bytes);
}

PinnedMemory::~PinnedMemory() {
  if (data_ == nullptr) return;
  forget_pinned(data_);
  ::operator delete (data_, std::align_val_t{4096});
}

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
