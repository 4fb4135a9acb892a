// What tests of kernels share: filling and reading a device's memory, running in several schedules, and asking what a
// launch is refused with. They name BILLFISH_TARGET alone, so that they can be compiled for GPUs as they stand.
#pragma once
#include <string>
#include <vector>

#include "engine/error.h"
#include "machine/schedule.h"
#include "runtime/launch.h"
#include "runtime/memory.h"
#include "runtime/stream.h"
#include "support/check.h"

using billfish::emulator::Schedule;
using billfish::emulator::ScheduleScope;

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define BILLFISH_THREAD_SANITIZER
#endif
#endif

// Calls test() in every schedule; a right kernel's results are the same in all. (On a GPU schedules mean nothing; under
// ThreadSanitizer, where fibers are fifty times slower and of which only one runs at a time, one must do.)
template <class Test>
void in_every_schedule(const Test& test) {
#ifdef BILLFISH_THREAD_SANITIZER
  const Schedule schedules[] = {Schedule::random(1)};
#else
  const Schedule schedules[] = {Schedule::in_order(), Schedule::reversed(), Schedule::random(1), Schedule::random(2)};
#endif
  for (const Schedule& schedule : schedules) {
    const ScheduleScope scope(schedule);
    test();
  }
}

// Memory of the stream's device with these values.
template <class T>
billfish::BILLFISH_TARGET::DeviceMemory upload(billfish::BILLFISH_TARGET::Stream& stream,
                                               const std::vector<T>& values) {
  billfish::BILLFISH_TARGET::DeviceMemory memory(stream.device(), values.size() * sizeof(T));
  stream.copy_to_device(memory.data(), values.data(), memory.bytes());
  return memory;
}

template <class T>
std::vector<T> download(billfish::BILLFISH_TARGET::Stream& stream,
                        const billfish::BILLFISH_TARGET::DeviceMemory& memory) {
  std::vector<T> values(memory.bytes() / sizeof(T));
  stream.copy_to_host(values.data(), memory.data(), memory.bytes());
  return values;
}

// 0, 1, 2, ...
inline std::vector<float> counting(size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i);
  return values;
}

// The error that action() throws; empty when it throws none.
template <class Action>
std::string complaint(const Action& action) {
  try {
    action();
  } catch (const billfish::Error& error) {
    return error.what();
  }
  return "";
}

template <class Kernel>
std::string launch_complaint(billfish::BILLFISH_TARGET::Stream& stream,
                             const billfish::BILLFISH_TARGET::LaunchShape& shape, const Kernel& kernel) {
  return complaint([&] {
    launch(stream, shape, kernel);
    stream.synchronize();
  });
}

#define CHECK_COMPLAINT(complaint, part)                                                                      \
  do {                                                                                                        \
    const std::string checked_text = (complaint);                                                             \
    CHECK_MESSAGE(checked_text.find(part) != std::string::npos, "'" << checked_text << "' lacks " << (part)); \
  } while (0)
