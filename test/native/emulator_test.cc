// The emulator runs kernels that are right, in all schedules, and says what is wrong with those that are not.
#include <cmath>
#include <string>
#include <vector>

#include "check.h"
#include "cuda/runtime/self_test.h"
#include "engine/error.h"
#include "machine/schedule.h"
#include "primitives/async_copy.h"
#include "primitives/atomic.h"
#include "primitives/index.h"
#include "primitives/reduce.h"
#include "primitives/sync.h"
#include "runtime/launch.h"
#include "runtime/memory.h"

using namespace billfish::emulated;
using billfish::Error;
using billfish::emulator::Schedule;
using billfish::emulator::ScheduleScope;

namespace {

const Schedule all_schedules[] = {Schedule::in_order(), Schedule::reversed(), Schedule::random(1), Schedule::random(2)};

// Memory of a device with these values, and what is in memory.
template <class T>
DeviceMemory upload(Stream& stream, const std::vector<T>& values) {
  DeviceMemory memory(stream.device(), values.size() * sizeof(T));
  stream.copy_to_device(memory.data(), values.data(), memory.bytes());
  return memory;
}
template <class T>
std::vector<T> download(Stream& stream, const DeviceMemory& memory) {
  std::vector<T> values(memory.bytes() / sizeof(T));
  stream.copy_to_host(values.data(), memory.data(), memory.bytes());
  return values;
}

// What a launch is refused with; empty when it runs.
template <class Kernel>
std::string complaint(const LaunchShape& shape, const Kernel& kernel, int device = 0) {
  Stream stream(Device::at(device));
  try {
    launch(stream, shape, kernel);
    stream.synchronize();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

#define CHECK_COMPLAINT(text, part)                                                                     \
  do {                                                                                                  \
    const std::string complained = text;                                                                \
    CHECK_MESSAGE(complained.find(part) != std::string::npos, "'" << complained << "' lacks " << part); \
  } while (0)

// Each block reverses its values by way of shared memory. Without the barrier a thread may read too early.
template <bool with_barrier>
struct ReverseBlock {
  static constexpr int max_threads = 256;
  Global<const float> in;
  Global<float> out;

  DEVICE void operator()() const {
    Shared<float> buffer = shared_memory<float>();
    const uint32_t thread = thread_index().x, first = block_index().x * block_size().x;
    buffer[thread] = in[first + thread];
    if constexpr (with_barrier) sync_threads();
    out[first + thread] = buffer[block_size().x - 1 - thread];
  }
};

}  // namespace

TEST(emulator_runs_the_self_test) {
  for (const Schedule& schedule : all_schedules) {
    const ScheduleScope scope(schedule);
    billfish::emulated::self_test(0);
    billfish::emulated::self_test(3);
  }
}

TEST(emulator_runs_a_barrier_and_catches_its_absence) {
  Stream stream(Device::at(0));
  std::vector<float> values(1024);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  const DeviceMemory in = upload(stream, values);
  const DeviceMemory out(Device::at(0), in.bytes());
  const LaunchShape shape{.grid = {4}, .block = {256}, .shared_bytes = 1024};
  for (const Schedule& schedule : all_schedules) {
    const ScheduleScope scope(schedule);
    launch(stream, shape, ReverseBlock<true>{in.as<float>(), out.as<float>()});
    const auto result = download<float>(stream, out);
    for (size_t i = 0; i < result.size(); ++i) CHECK(result[i] == values[i / 256 * 256 + 255 - i % 256]);
    CHECK_COMPLAINT(complaint(shape, ReverseBlock<false>{in.as<float>(), out.as<float>()}), "was never written");
  }
}
