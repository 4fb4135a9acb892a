// The order in which the threads of a launch run where CUDA leaves it open. A correct kernel gives the same result in
// every order; one that lacks a barrier or a wait usually does not.
//
// Outside a ScheduleScope, BILLFISH_EMULATOR_SCHEDULE decides: in-order (the default), reversed, or random:SEED.
#pragma once
#include <cstdint>
#include <string>

namespace billfish::emulator {

struct Schedule {
  enum class Order { in_order, reversed, random };
  Order order = Order::in_order;
  uint64_t seed = 0;

  static Schedule in_order() { return {}; }
  static Schedule reversed() { return {Order::reversed, 0}; }
  static Schedule random(uint64_t seed) { return {Order::random, seed}; }

  // What launches of this thread take at present.
  static Schedule current();
  std::string text() const;
};

// Launches of this thread (of the operating system) take the schedule while the object lives.
class ScheduleScope {
 public:
  explicit ScheduleScope(Schedule schedule);
  ~ScheduleScope();
  ScheduleScope(const ScheduleScope&) = delete;
  ScheduleScope& operator=(const ScheduleScope&) = delete;

 private:
  const Schedule* before_;
  Schedule schedule_;
};

}  // namespace billfish::emulator
