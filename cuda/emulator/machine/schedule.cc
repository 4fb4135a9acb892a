#include "machine/schedule.h"

#include <cstdlib>

#include "engine/error.h"

namespace billfish::emulator {

static thread_local const Schedule* scoped = nullptr;

static Schedule configured() {
  const char* text = std::getenv("BILLFISH_EMULATOR_SCHEDULE");
  const std::string wanted = text == nullptr || *text == '\0' ? "in-order" : text;
  if (wanted == "in-order") return Schedule::in_order();
  if (wanted == "reversed") return Schedule::reversed();
  const std::string random = "random:";
  if (wanted.rfind(random, 0) == 0 && wanted.size() > random.size()) {
    char* end = nullptr;
    const uint64_t seed = std::strtoull(wanted.c_str() + random.size(), &end, 10);
    if (*end == '\0') return Schedule::random(seed);
  }
  throw Error("INVALID_OPTION", "BILLFISH_EMULATOR_SCHEDULE is '" + wanted +
                                    "'; it must be in-order, reversed or random:SEED, with a whole number for SEED.");
}

Schedule Schedule::current() {
  if (scoped != nullptr) return *scoped;
  static const Schedule schedule = configured();
  return schedule;
}

std::string Schedule::text() const {
  switch (order) {
    case Order::in_order:
      return "in-order";
    case Order::reversed:
      return "reversed";
    default:
      return "random:" + std::to_string(seed);
  }
}

ScheduleScope::ScheduleScope(Schedule schedule) : before_(scoped), schedule_(schedule) { scoped = &schedule_; }
ScheduleScope::~ScheduleScope() { scoped = before_; }

}  // namespace billfish::emulator
