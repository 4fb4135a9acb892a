// Host buffers for hidden states between stages. Every stage contributes one, and every step between two stages holds
// one, so with no more steps in flight than stages there is always a free one.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace billfish {

class ActivationBuffers : public std::enable_shared_from_this<ActivationBuffers> {
 public:
  // One step's buffer, [rows of the largest batch][width]. Released or destroyed, it is free for the next step.
  class Buffer {
   public:
    Buffer() = default;
    Buffer(Buffer&& other) noexcept;
    Buffer& operator=(Buffer&& other) noexcept;
    ~Buffer() { release(); }

    float* data() const { return data_; }
    void release();

   private:
    friend class ActivationBuffers;
    Buffer(std::shared_ptr<ActivationBuffers> owner, float* data) : owner_(std::move(owner)), data_(data) {}
    std::shared_ptr<ActivationBuffers> owner_;  // a step may outlive the pipeline that it went through
    float* data_ = nullptr;
  };

  // Before the first step. Throws INTERNAL unless all buffers have the same row width.
  void add(float* buffer, int64_t width);

  // Waits while other steps hold all buffers.
  Buffer acquire();

 private:
  std::mutex mutex_;
  std::condition_variable freed_;
  std::vector<float*> free_;
  int64_t width_ = 0;
};

}  // namespace billfish
