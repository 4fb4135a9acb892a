#include "engine/activation_buffers.h"

#include <string>
#include <utility>

#include "engine/error.h"

namespace billfish {

ActivationBuffers::Buffer::Buffer(Buffer&& other) noexcept
    : owner_(std::move(other.owner_)), data_(std::exchange(other.data_, nullptr)) {}

ActivationBuffers::Buffer& ActivationBuffers::Buffer::operator=(Buffer&& other) noexcept {
  std::swap(owner_, other.owner_);
  std::swap(data_, other.data_);
  return *this;
}

void ActivationBuffers::Buffer::release() {
  if (data_ == nullptr) return;
  {
    std::lock_guard lock(owner_->mutex_);
    owner_->free_.push_back(data_);
  }
  owner_->freed_.notify_one();
  data_ = nullptr;
  owner_.reset();
}

void ActivationBuffers::add(float* buffer, int64_t width) {
  std::lock_guard lock(mutex_);
  if (width_ != 0 && width_ != width) {
    throw Error("INTERNAL", "stages hand over rows of " + std::to_string(width_) + " and of " + std::to_string(width));
  }
  width_ = width;
  free_.push_back(buffer);
}

ActivationBuffers::Buffer ActivationBuffers::acquire() {
  std::unique_lock lock(mutex_);
  freed_.wait(lock, [this] { return !free_.empty(); });
  float* const data = free_.back();
  free_.pop_back();
  return Buffer(shared_from_this(), data);
}

}  // namespace billfish
