// What a stage takes of its device: all its memory at once, in whole pages, and not a byte more than was planned.
#include <cstdint>
#include <optional>
#include <vector>

#include "backend/stage_memory.h"
#include "support/check.h"
#include "support/kernel_testing.h"

namespace billfish::BILLFISH_TARGET {

static constexpr uint64_t page = gpu::page;

TEST(arena_takes_whole_pages_of_its_device) {
  Device& device = Device::at(0);
  Stream stream(device);
  const uint64_t before = device.free_bytes();
  {
    const DeviceArena smallest(device, 1);
    CHECK(device.free_bytes() == before - page);
    const DeviceArena larger(device, 5 * page + 256);
    CHECK(device.free_bytes() == before - 7 * page);
  }
  CHECK(device.free_bytes() == before);
  CHECK(gpu::in_pages(0) == 0);
  CHECK(gpu::in_pages(page) == page);
  CHECK(gpu::in_pages(page + 1) == 2 * page);
}

TEST(stage_memory_is_what_was_planned_and_what_the_device_loses) {
  Device& device = Device::at(0);
  Stream stream(device);
  { StageMemory(device, stream).allocate(256, MemoryUse::buffers); }  // now all that a fill needs is loaded
  stream.synchronize();
  const uint64_t before = device.free_bytes();
  {
    // Hundreds of small parts, as a model has: with pages of their own they would take 2.4 GiB.
    constexpr size_t count = 1200, planned = count * 768 + 2 * page + 256;
    StageMemory memory(device, stream);
    memory.reserve(planned);
    CHECK(device.free_bytes() == before - 3 * page);
    std::vector<uint8_t*> parts;
    const auto add = [&](size_t bytes, MemoryUse use) {
      parts.push_back(static_cast<uint8_t*>(memory.allocate(bytes, use)));
      CHECK(reinterpret_cast<uintptr_t>(parts.back()) % gpu::granularity == 0);
    };
    for (size_t i = 0; i < count; ++i) add(513 + i % 256, MemoryUse::weights);
    CHECK(memory.allocate(0, MemoryUse::weights) == nullptr);
    add(2 * page, MemoryUse::kv_cache);
    CHECK(memory.count().total() == 3 * page - 256);
    add(1, MemoryUse::buffers);
    CHECK(memory.count().weights == count * 768);
    CHECK(memory.count().kv_cache == 2 * page);
    CHECK(memory.count().buffers == 256 + (3 * page - planned));
    CHECK(memory.count().total() == before - device.free_bytes());

    // Parts do not overlap.
    for (size_t i = 0; i < count; ++i) stream.fill(parts[i], static_cast<uint8_t>(i % 251), 513 + i % 256);
    for (size_t i = 0; i < count; i += 37) {
      std::vector<uint8_t> bytes(513 + i % 256);
      stream.copy_to_host(bytes.data(), parts[i], bytes.size());
      CHECK(bytes == std::vector<uint8_t>(bytes.size(), static_cast<uint8_t>(i % 251)));
    }
    std::vector<uint8_t> cache(2 * page, 1);
    stream.copy_to_host(cache.data(), parts[count], cache.size());
    CHECK(cache == std::vector<uint8_t>(2 * page, 0));
  }
  stream.synchronize();
  CHECK(device.free_bytes() == before);
}

TEST(stage_memory_refuses_what_was_not_planned) {
  Device& device = Device::at(0);
  Stream stream(device);
  StageMemory memory(device, stream);
  memory.reserve(4096);  // there is room in the page for more
  memory.allocate(2049, MemoryUse::buffers);
  CHECK_THROWS(memory.allocate(1793, MemoryUse::kv_cache), "INTERNAL");
  const std::string told = complaint([&] { memory.allocate(1793, MemoryUse::kv_cache); });
  CHECK_COMPLAINT(told, device.name() + " was planned to hold 4096 bytes: it has 2304 and asks for 2048 more");
  memory.allocate(1792, MemoryUse::kv_cache);
  CHECK_THROWS(memory.allocate(1, MemoryUse::weights), "INTERNAL");
}

TEST(stage_memory_that_does_not_fit_is_refused_at_once) {
  Device& device = Device::at(0);
  Stream stream(device);
  const uint64_t free_bytes = device.free_bytes();
  StageMemory memory(device, stream);
  CHECK_THROWS(memory.reserve(free_bytes + 1), "OUT_OF_MEMORY");
  const std::string told = complaint([&] { memory.reserve(free_bytes + 1); });
  CHECK_COMPLAINT(told, "cannot hold " + std::to_string(gpu::in_pages(free_bytes + 1)) + " more bytes: ");
  CHECK(device.free_bytes() == free_bytes);
  CHECK(memory.count().total() == 0);
  memory.reserve(256);
  memory.allocate(256, MemoryUse::weights);
}

}  // namespace billfish::BILLFISH_TARGET
