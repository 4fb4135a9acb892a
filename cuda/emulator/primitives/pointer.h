// Kernel pointers in the emulator: an address, checked at every access.
#pragma once
#include <compare>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "machine/access.h"
#include "primitives/macros.h"
#include "primitives/numbers.h"

namespace billfish::BILLFISH_TARGET {

// What p[i] is before it is known whether it will be read or written. It cannot be kept: `auto x = p[i]` does not
// compile further, `T x = p[i]` does.
template <class T, class Space>
class Reference {
 public:
  explicit Reference(uintptr_t address) : address_(address) {}
  Reference(const Reference&) = delete;
  operator T() && { return emulator::load<T, Space>(address_); }
  T operator=(const T& value) && { return write(value); }
  T operator=(Reference&& other) && { return write(std::move(other)); }
  template <class U>
  T operator+=(const U& value) && {
    return write(read() + value);
  }
  template <class U>
  T operator-=(const U& value) && {
    return write(read() - value);
  }
  template <class U>
  T operator*=(const U& value) && {
    return write(read() * value);
  }
  template <class U>
  T operator|=(const U& value) && {
    return write(read() | value);
  }
  template <class U>
  T operator^=(const U& value) && {
    return write(read() ^ value);
  }

 private:
  T read() const { return emulator::load<T, Space>(address_); }
  T write(T value) const {
    emulator::store<T, Space>(address_, value);
    return value;
  }
  uintptr_t address_;
};

template <class T, class Space>
class Pointer {
  static constexpr size_t step = sizeof(T);

 public:
  Pointer() = default;
  Pointer(std::nullptr_t) {}
  // A device address from DeviceMemory.
  Pointer(T* address) requires std::is_same_v<Space, emulator::GlobalSpace>
      : address_(reinterpret_cast<uintptr_t>(address)) {}
  template <class U>
  requires std::is_same_v<const U, T> Pointer(const Pointer<U, Space>& other) : address_(other.address()) {}
  static Pointer at(uintptr_t address) {
    Pointer pointer;
    pointer.address_ = address;
    return pointer;
  }
  uintptr_t address() const { return address_; }

  decltype(auto) operator[](std::ptrdiff_t i) const {
    const uintptr_t address = address_ + static_cast<uintptr_t>(i) * step;
    if constexpr (std::is_const_v<T>) {
      return emulator::load<std::remove_const_t<T>, Space>(address);
    } else {
      return Reference<T, Space>(address);
    }
  }
  decltype(auto) operator*() const { return (*this)[0]; }

  friend Pointer operator+(Pointer p, std::ptrdiff_t i) { return at(p.address_ + static_cast<uintptr_t>(i) * step); }
  friend Pointer operator+(std::ptrdiff_t i, Pointer p) { return p + i; }
  friend Pointer operator-(Pointer p, std::ptrdiff_t i) { return p + -i; }
  friend std::ptrdiff_t operator-(Pointer a, Pointer b) {
    return static_cast<std::ptrdiff_t>(a.address_ - b.address_) / static_cast<std::ptrdiff_t>(step);
  }
  Pointer& operator+=(std::ptrdiff_t i) { return *this = *this + i; }
  Pointer& operator-=(std::ptrdiff_t i) { return *this = *this - i; }
  Pointer& operator++() { return *this += 1; }
  friend auto operator<=>(const Pointer&, const Pointer&) = default;
  explicit operator bool() const { return address_ != 0; }

 private:
  uintptr_t address_ = 0;
};

// Pointers to bytes of any type: what copies and wide accesses take.
template <class Void, class Space>
requires std::is_void_v<Void>
class Pointer<Void, Space> {
 public:
  Pointer() = default;
  Pointer(std::nullptr_t) {}
  Pointer(Void* address) requires std::is_same_v<Space, emulator::GlobalSpace>
      : address_(reinterpret_cast<uintptr_t>(address)) {}
  template <class T>
  requires(std::is_const_v<Void> || !std::is_const_v<T>) Pointer(const Pointer<T, Space>& other)
      : address_(other.address()) {}
  uintptr_t address() const { return address_; }
  friend auto operator<=>(const Pointer&, const Pointer&) = default;
  explicit operator bool() const { return address_ != 0; }

 private:
  uintptr_t address_ = 0;
};

template <class T>
using Global = Pointer<T, emulator::GlobalSpace>;
template <class T>
using Shared = Pointer<T, emulator::SharedSpace>;

template <class T>
Shared<T> shared_memory(uint32_t byte_offset = 0) {
  return Shared<T>::at(emulator::shared_base + byte_offset);
}

template <class U, class T, class Space>
Pointer<U, Space> pointer_cast(Pointer<T, Space> pointer) {
  static_assert(std::is_const_v<U> || !std::is_const_v<T>, "a cast cannot take const away");
  return Pointer<U, Space>::at(pointer.address());
}

template <class U>
U load_as(Global<const void> from, Location at = Location::current()) {
  return emulator::load<U, emulator::GlobalSpace>(from.address(), at);
}
template <class U>
U load_as(Shared<const void> from, Location at = Location::current()) {
  return emulator::load<U, emulator::SharedSpace>(from.address(), at);
}
template <class U>
void store_as(Global<void> to, const U& value, Location at = Location::current()) {
  emulator::store<U, emulator::GlobalSpace>(to.address(), value, at);
}
template <class U>
void store_as(Shared<void> to, const U& value, Location at = Location::current()) {
  emulator::store<U, emulator::SharedSpace>(to.address(), value, at);
}

template <class U>
U load_readonly(Global<const void> from, Location at = Location::current()) {
  return load_as<U>(from, at);
}
template <class U>
U load_streaming(Global<const void> from, Location at = Location::current()) {
  return load_as<U>(from, at);
}
template <class U>
void store_whole(Global<void> to, const U& value, Location at = Location::current()) {
  store_as<U>(to, value, at);
}
template <class U>
U load_coherent(Global<const void> from, Location at = Location::current()) {
  return load_as<U>(from, at);
}
inline void prefetch_l2(Global<const void>) {}

// --- Atomic operations, and accesses in an order, device-wide.

template <class T, class Space>
T atomic_add(Pointer<T, Space> to, std::type_identity_t<T> value, Location at = Location::current()) {
  const T before = emulator::load<T, Space>(to.address(), at);
  emulator::store<T, Space>(to.address(), static_cast<T>(before + value), at);
  return before;
}

inline int32_t load_acquire(Global<const int32_t> from, Location at = Location::current()) {
  return load_as<int32_t>(from, at);
}
inline void add_release(Global<int32_t> to, int32_t value, Location at = Location::current()) {
  atomic_add(to, value, at);
}

}  // namespace billfish::BILLFISH_TARGET
