#include "machine/access.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

namespace billfish::emulator {

static std::string hexadecimal(uintptr_t address) {
  char text[32];
  std::snprintf(text, sizeof(text), "0x%llx", static_cast<unsigned long long>(address));
  return text;
}

static std::string access_text(const char* verb, size_t bytes, const char* space, uintptr_t address) {
  return std::string(verb) + " " + std::to_string(bytes) + " bytes of " + space + " memory at " + hexadecimal(address);
}

// Where an access ends up that never arrives: zeros, whatever was written.
static Place lost_place(size_t bytes) {
  thread_local std::vector<std::byte> nowhere;
  thread_local std::vector<uint8_t> written;
  nowhere.assign(bytes, std::byte{0});
  written.assign(bytes, AddressSpace::settled);
  return {nowhere.data(), written.data()};
}

Place global_place_or_fault(uintptr_t address, size_t bytes, size_t alignment, const char* verb, Location at) {
  const Device& device = *running()->block->grid->launch().device;
  const std::string access = access_text(verb, bytes, "global", address);
  if (const std::string objection = access_objection(device, address, bytes); !objection.empty()) {
    fault(access + ", which " + objection, at);
  }
  const AddressSpace& memory = device_of(address)->memory;
  if (address % alignment != 0) {
    fault(access + " (" + memory.describe(address) + "), which is not a multiple of " + std::to_string(alignment), at);
  }
  const bool reads = std::strstr(verb, "writes") == nullptr;
  if (&memory != &device.memory && (reads ? device.loses_peer_reads : device.loses_peer_writes)) {
    return lost_place(bytes);
  }
  return {memory.bytes_at(address), memory.written_at(address)};
}

Place shared_place_or_fault(uintptr_t address, size_t bytes, size_t alignment, const char* verb, Location at) {
  const std::string access = access_text(verb, bytes, "shared", address - shared_base);
  const size_t size = running()->block->shared.size();
  if (address < shared_base) fault(std::string(verb) + " shared memory through a null pointer", at);
  if (address - shared_base + bytes > size) {
    fault(access + ", and the launch has " + std::to_string(size) + " bytes of it", at);
  }
  fault(access + ", which is not a multiple of " + std::to_string(alignment), at);
}

void fault_unwritten(const char* space, uintptr_t address, const Place& place, size_t bytes, Location at) {
  size_t first = 0;
  while (first < bytes && place.written[first] != 0) ++first;
  const bool shared = std::string(space) == "shared";
  const uintptr_t shown = shared ? address - shared_base : address;
  std::string what = access_text("reads", bytes, space, shown);
  if (!shared) what += " (" + device_of(address)->memory.describe(address) + ")";
  what += ", of which byte " + std::to_string(first) + " was never written";
  if (shared) what += ", or is the target of a copy that was not waited for";
  fault(what, at);
}

void check_overlapping_load(uintptr_t address, const Place& place, size_t bytes, Location at) {
  const uint8_t mark = running()->block->grid->kernel_mark();
  if (std::find(place.written, place.written + bytes, mark) == place.written + bytes) return;
  fault(access_text("reads", bytes, "global", address) + " (" + device_of(address)->memory.describe(address) +
            ") before wait_for_previous_grid(), and a kernel that may still run wrote it",
        at);
}

void fault_overlapping_store(uintptr_t address, size_t bytes, Location at) {
  fault(access_text("writes", bytes, "global", address) + " (" + device_of(address)->memory.describe(address) +
            ") before wait_for_previous_grid(), and a kernel that may still run may use it",
        at);
}

void complete(const AsyncCopy& copy) {
  Block& block = *running()->block;
  std::byte* to = block.shared.data() + copy.to;
  uint8_t* written = block.shared_written.data() + copy.to;
  if (copy.from == 0) {
    std::memset(to, 0, copy.bytes);
    std::memset(written, AddressSpace::settled, copy.bytes);
    return;
  }
  const Place from = global_place(copy.from, copy.bytes, 1, "copies");
  std::memcpy(to, from.bytes, copy.bytes);
  std::memcpy(written, from.written, copy.bytes);
}

void poison(const AsyncCopy& copy) {
  Block& block = *running()->block;
  std::memset(block.shared.data() + copy.to, 0xff, copy.bytes);
  std::memset(block.shared_written.data() + copy.to, 0, copy.bytes);
}

}  // namespace billfish::emulator
