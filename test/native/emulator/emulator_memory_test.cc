// Accesses of emulated memory: whose it is, its bounds, alignment, and whether it was ever written.
#include <cstdint>
#include <vector>

#include "machine/address_space.h"
#include "primitives/index.h"
#include "primitives/pointer.h"
#include "primitives/sync.h"
#include "runtime/memory.h"
#include "support/kernel_testing.h"

using namespace billfish::emulated;

namespace {

struct ReadOne {
  static constexpr int max_threads = 32;
  Global<const float> in;
  Global<float> out;
  int64_t index;

  DEVICE void operator()() const {
    if (thread_index().x == 5) out[0] = in[index];
  }
};

struct ReadWide {
  static constexpr int max_threads = 32;
  Global<const float> in;
  Global<float> out;

  DEVICE void operator()() const { store_as<uint4>(out, load_as<uint4>(in)); }
};

struct ReadShared {
  static constexpr int max_threads = 1;
  uint32_t offset;
  Global<float> out;

  DEVICE void operator()() const { out[0] = shared_memory<float>()[offset]; }
};

// A launch that may begin before the one before it has ended.
template <bool with_wait>
struct Overlap {
  static constexpr int max_threads = 32;
  Global<const float> in;
  Global<float> out;

  DEVICE void operator()() const {
    if constexpr (with_wait) wait_for_previous_grid();
    const float value = in[thread_index().x];
    wait_for_previous_grid();
    out[thread_index().x] = value;
  }
};

struct StoreEarly {
  static constexpr int max_threads = 32;
  Global<float> out;

  DEVICE void operator()() const { out[0] = 1; }
};

std::string read_one(Stream& stream, const float* in, int64_t index) {
  const DeviceMemory out(stream.device(), sizeof(float));
  return launch_complaint(stream, {.block = {32}}, ReadOne{in, out.as<float>(), index});
}

}  // namespace

TEST(emulator_memory_catches_what_is_out_of_bounds) {
  Stream stream(Device::at(0));
  const DeviceMemory in = upload(stream, std::vector<float>(100, 1.0f));
  CHECK(read_one(stream, in.as<float>(), 99).empty());
  const std::string complained = read_one(stream, in.as<float>(), 100);
  CHECK_COMPLAINT(complained, "ReadOne, block (0, 0, 0), thread (5, 0, 0)");
  CHECK_COMPLAINT(complained, "0 bytes past the end of allocation");
  CHECK_COMPLAINT(complained, "(400 bytes of emulated:0)");
  CHECK_COMPLAINT(read_one(stream, in.as<float>(), 128), "112 bytes past the end of allocation");
  CHECK_COMPLAINT(read_one(stream, in.as<float>(), -1), "bytes");
  CHECK_COMPLAINT(read_one(stream, nullptr, 3), "null pointer");
  const float host = 1;
  CHECK_COMPLAINT(read_one(stream, &host, 0), "memory of the host?");

  const DeviceMemory out(Device::at(0), 16);
  const LaunchShape one_thread;
  CHECK(launch_complaint(stream, one_thread, ReadWide{in.as<float>(16), out.as<float>()}).empty());
  CHECK_COMPLAINT(launch_complaint(stream, one_thread, ReadWide{in.as<float>(4), out.as<float>()}),
                  "not a multiple of 16");
  CHECK_COMPLAINT(launch_complaint(stream, one_thread, ReadWide{in.as<float>(4), out.as<float>()}),
                  "emulator_memory_test.cc:");
  const DeviceMemory small = upload(stream, std::vector<float>(6, 1.0f));
  CHECK_COMPLAINT(launch_complaint(stream, one_thread, ReadWide{small.as<float>(16), out.as<float>()}),
                  "reaches 8 bytes past the end");
}

// Addresses come around again: what is told of one is of the latest allocation there.
TEST(emulator_memory_names_the_latest_owner_of_an_address) {
  billfish::emulator::AddressSpace space("a device", billfish::emulator::AddressSpace::page);
  for (int i = 0; i < 10; ++i) space.release(space.allocate(1 << 20));
  const uintptr_t place = space.allocate(400);
  CHECK(space.explain(place, 400).empty());
  CHECK_COMPLAINT(space.explain(place + 396, 8), "4 bytes past the end of allocation 11 (400 bytes of a device)");
  CHECK_COMPLAINT(space.explain(place + 400, 4), "0 bytes past the end of allocation 11 (400 bytes of a device)");
  CHECK_COMPLAINT(space.explain(place + 512, 4), "112 bytes past the end of allocation 11 (400 bytes of a device)");
  CHECK_COMPLAINT(space.explain(place + 1000, 4), "byte 1000 of released allocation");
}

// What is allocated at once is checked by its parts.
TEST(emulator_memory_knows_the_parts_of_an_arena) {
  Stream stream(Device::at(0));
  DeviceArena arena(Device::at(0), 4096);
  const auto* const first = static_cast<const float*>(arena.part(0, 400));
  void* const second = arena.part(512, 512);
  stream.fill(const_cast<float*>(first), 0, 400);
  stream.fill(second, 0, 4);
  CHECK(read_one(stream, first, 99).empty());
  CHECK_COMPLAINT(read_one(stream, first, 100), "0 bytes past the end of allocation");
  CHECK_COMPLAINT(read_one(stream, first, 128), "112 bytes past the end of allocation");  // where a GPU has the second
  CHECK(read_one(stream, static_cast<const float*>(second), 0).empty());
  CHECK_COMPLAINT(read_one(stream, static_cast<const float*>(second), 1), "was never written");
  CHECK_COMPLAINT(read_one(stream, static_cast<const float*>(second), -1), "bytes");
}

TEST(emulator_memory_catches_what_was_never_written) {
  Stream stream(Device::at(0));
  const DeviceMemory empty(Device::at(0), 64);
  CHECK_COMPLAINT(read_one(stream, empty.as<float>(), 3), "of which byte 0 was never written");
  CHECK_COMPLAINT(read_one(stream, empty.as<float>(), 3), "byte 12 of allocation");
  float value = 0;
  CHECK_COMPLAINT(complaint([&] { stream.copy_to_host(&value, empty.data(), sizeof(value)); }), "was never written");
  stream.fill(empty.data(), 0, 16);
  CHECK(read_one(stream, empty.as<float>(), 3).empty());
  // A copy takes along what was not written.
  const DeviceMemory copied = upload(stream, std::vector<float>(16, 1.0f));
  stream.copy(copied.data(), empty.data(), 64);
  CHECK(read_one(stream, copied.as<float>(), 3).empty());
  CHECK_COMPLAINT(read_one(stream, copied.as<float>(), 4), "was never written");
}

TEST(emulator_memory_catches_another_devices_pointer) {
  Stream stream(Device::at(4)), other(Device::at(5));
  const DeviceMemory foreign = upload(other, std::vector<float>{7});
  other.synchronize();
  CHECK_COMPLAINT(read_one(stream, foreign.as<float>(), 0), "emulated:5), a device that emulated:4 has not been given");
  CHECK(Device::at(4).can_access(Device::at(5)));
  CHECK(read_one(stream, foreign.as<float>(), 0).empty());
  CHECK_COMPLAINT(read_one(stream, foreign.as<float>(), 1), "past the end of allocation");
}

// A device is not believed that says it reaches a peer: what it reads and writes there has to arrive.
TEST(emulator_memory_of_peers_is_tried) {
  Device &here = Device::at(9), &there = Device::at(10);
  {
    const Variable peers("BILLFISH_EMULATED_PEERS", "lost");
    CHECK(!here.can_access(there));
    CHECK_COMPLAINT(here.peer_access_error(there),
                    "emulated:9 is said to reach the memory of emulated:10, but what it reads");
    CHECK(here.can_access(here));
  }
  {
    const Variable peers("BILLFISH_EMULATED_PEERS", "lost-writes");
    CHECK_COMPLAINT(here.peer_access_error(there), "but what it writes there is lost");
    CHECK(!there.can_access(here));  // each of them by itself
  }
  {
    const Variable peers("BILLFISH_EMULATED_PEERS", "off");
    CHECK_COMPLAINT(here.peer_access_error(there), "emulated:9 does not reach the memory of emulated:10");
  }
  CHECK(here.can_access(there));
  CHECK(here.peer_access_error(there).empty());
}

TEST(emulator_memory_catches_what_was_released) {
  Stream stream(Device::at(0));
  const float* dangling = nullptr;
  {
    const DeviceMemory memory = upload(stream, std::vector<float>{7});
    dangling = memory.as<float>();
  }
  CHECK_COMPLAINT(read_one(stream, dangling, 0), "released allocation");
}

TEST(emulator_memory_catches_access_to_the_previous_grids_results_before_the_wait) {
  Stream stream(Device::at(0));
  const DeviceMemory a = upload(stream, std::vector<float>(32, 1.0f));
  const DeviceMemory b(Device::at(0), a.bytes()), c(Device::at(0), a.bytes());
  const LaunchShape shape{.block = {32}, .programmatic = true}, ordered{.block = {32}};
  const auto step = [&](const auto& second, const LaunchShape& second_shape) {
    launch(stream, shape, Overlap<false>{a.as<float>(), b.as<float>()});  // what a copy wrote may be read early
    return launch_complaint(stream, second_shape, second);
  };
  CHECK(step(Overlap<true>{b.as<float>(), c.as<float>()}, shape).empty());
  CHECK(step(Overlap<false>{b.as<float>(), c.as<float>()}, ordered).empty());
  CHECK_COMPLAINT(step(Overlap<false>{b.as<float>(), c.as<float>()}, shape), "before wait_for_previous_grid()");
  CHECK_COMPLAINT(launch_complaint(stream, shape, StoreEarly{c.as<float>()}), "before wait_for_previous_grid()");
  CHECK(launch_complaint(stream, ordered, StoreEarly{c.as<float>()}).empty());
  // Once the host has waited, everything is there; however often.
  stream.synchronize();
  for (int i = 0; i < 600; ++i) {
    CHECK(launch_complaint(stream, shape, Overlap<false>{b.as<float>(), c.as<float>()}).empty());
  }
}

TEST(emulator_memory_checks_the_bounds_of_shared_memory) {
  Stream stream(Device::at(0));
  const DeviceMemory out(Device::at(0), 4);
  const LaunchShape shape{.shared_bytes = 64};
  CHECK_COMPLAINT(launch_complaint(stream, shape, ReadShared{16, out.as<float>()}),
                  "and the launch has 64 bytes of it");
  CHECK_COMPLAINT(launch_complaint(stream, shape, ReadShared{15, out.as<float>()}), "was never written");
}

TEST(emulator_memory_counts_and_runs_out) {
  Device& device = Device::at(6);
  const uint64_t free_bytes = device.free_bytes();
  {
    const DeviceMemory a(device, 1), b(device, billfish::gpu::page + 1);
    CHECK(device.free_bytes() == free_bytes - 3 * billfish::gpu::page);
    CHECK(billfish::gpu::counted(257) == 512);
  }
  CHECK(device.free_bytes() == free_bytes);
  CHECK_THROWS(DeviceMemory(device, free_bytes + 1), "OUT_OF_MEMORY");
  const std::string complained = complaint([&] { DeviceMemory(device, free_bytes + 1); });
  CHECK_COMPLAINT(complained, "emulated:6 cannot hold " + std::to_string(free_bytes + billfish::gpu::page));
  {
    const DeviceMemory all(device, free_bytes);  // costs nothing until it is touched
    CHECK_THROWS(DeviceMemory(device, 1), "OUT_OF_MEMORY");
  }
  // What was released in any order can be had again.
  std::vector<DeviceMemory> pieces;
  for (int i = 0; i < 64; ++i) pieces.emplace_back(device, free_bytes / 64);
  for (size_t i = 0; i < 64; i += 2) pieces[i] = DeviceMemory();
  for (size_t i = 1; i < 64; i += 2) pieces[i] = DeviceMemory();
  pieces.clear();
  const DeviceMemory again(device, free_bytes);
  CHECK_THROWS(Device::at(16), "DEVICE_NOT_FOUND");
  CHECK_THROWS(Device::at(-1), "DEVICE_NOT_FOUND");
}
