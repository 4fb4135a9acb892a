// A list over memory that somebody else allocated, with a fixed capacity.
#pragma once
#include <cstddef>

namespace billfish {

template <class T>
class BoundedList {
 public:
  BoundedList() = default;
  // `memory` has room for the list's largest size.
  explicit BoundedList(T* memory) : data_(memory) {}

  size_t size() const { return size_; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  T& front() { return data_[0]; }
  const T& front() const { return data_[0]; }
  T& back() { return data_[size_ - 1]; }

  void clear() { size_ = 0; }
  void push_back(const T& value) { data_[size_++] = value; }
  void pop_back() { --size_; }
  void shrink_to(size_t size) { size_ = size; }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace billfish
