// Atomic operations in the emulator: all threads of a grid run on one OS thread.
#pragma once
#include <cstdint>

#include "primitives/macros.h"
#include "primitives/math.h"
#include "primitives/pointer.h"

namespace billfish::BILLFISH_TARGET {

template <class T, class Space, class Change>
T atomic_change(Pointer<T, Space> to, Location at, const Change& change) {
  const T before = emulator::load<T, Space>(to.address(), at);
  emulator::store<T, Space>(to.address(), change(before), at);
  return before;
}

template <class T, class Space>
T atomic_add(Pointer<T, Space> to, std::type_identity_t<T> value, Location at = Location::current()) {
  return atomic_change(to, at, [&](T before) { return static_cast<T>(before + value); });
}
template <class T, class Space>
T atomic_max(Pointer<T, Space> to, std::type_identity_t<T> value, Location at = Location::current()) {
  return atomic_change(to, at, [&](T before) { return max(before, value); });
}
template <class T, class Space>
T atomic_exchange(Pointer<T, Space> to, std::type_identity_t<T> value, Location at = Location::current()) {
  return atomic_change(to, at, [&](T) { return value; });
}
template <class T, class Space>
T atomic_compare_exchange(Pointer<T, Space> to, std::type_identity_t<T> expected, std::type_identity_t<T> value,
                          Location at = Location::current()) {
  return atomic_change(to, at, [&](T before) { return before == expected ? value : before; });
}

inline int32_t load_acquire(Global<const int32_t> from, Location at = Location::current()) {
  return load_as<int32_t>(from, at);
}
inline void store_release(Global<int32_t> to, int32_t value, Location at = Location::current()) {
  store_as<int32_t>(to, value, at);
}
inline void add_release(Global<int32_t> to, int32_t value, Location at = Location::current()) {
  atomic_add(to, value, at);
}

}  // namespace billfish::BILLFISH_TARGET
