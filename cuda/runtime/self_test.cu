#include "runtime/self_test.h"

#include <cstdint>
#include <string>
#include <vector>

#include "engine/error.h"
#include "primitives/index.h"
#include "primitives/macros.h"
#include "primitives/pointer.h"
#include "runtime/launch.h"
#include "runtime/memory.h"

namespace billfish::BILLFISH_TARGET {

// A multiplicative hash: every thread writes a value that only its own index gives.
HOST_DEVICE uint32_t expected_value(uint32_t index) { return (index * 2654435761u) ^ (index >> 7); }

struct WriteExpectedValues {
  static constexpr int max_threads = 256;
  Global<uint32_t> out;
  uint32_t count;

  DEVICE void operator()() const {
    const uint32_t index = block_index().x * block_size().x + thread_index().x;
    if (index < count) out[index] = expected_value(index);
  }
};

void self_test(int index) {
  constexpr uint32_t count = 100'003, threads = 256;
  Device& device = Device::at(index);
  const DeviceMemory memory(device, count * sizeof(uint32_t));
  Stream stream(device);
  launch(stream, {.grid = {(count + threads - 1) / threads}, .block = {threads}},
         WriteExpectedValues{memory.as<uint32_t>(), count});
  std::vector<uint32_t> values(count);
  stream.copy_to_host(values.data(), memory.data(), count * sizeof(uint32_t));
  for (uint32_t i = 0; i < count; ++i) {
    if (values[i] != expected_value(i)) {
      throw Error("INTERNAL", "self-test of " + device.name() + ": thread " + std::to_string(i) + " wrote " +
                                  std::to_string(values[i]) + " instead of " + std::to_string(expected_value(i)));
    }
  }
}

}  // namespace billfish::BILLFISH_TARGET
