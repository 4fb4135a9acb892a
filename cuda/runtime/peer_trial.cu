#include <cstdint>
#include <string>
#include <vector>

#include "primitives/index.h"
#include "primitives/macros.h"
#include "primitives/pointer.h"
#include "runtime/device.h"
#include "runtime/launch.h"
#include "runtime/memory.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

namespace {

// Two words unique to this index: one is read from the peer, the other written there.
HOST_DEVICE uint32_t word_to_read(uint32_t index) { return (index * 2654435761u) ^ 0x5bd1e995u; }
HOST_DEVICE uint32_t word_to_write(uint32_t index) { return ~word_to_read(index) ^ (index >> 3); }

struct ExchangeWords {
  static constexpr int max_threads = 128;
  Global<const uint32_t> peer_source;
  Global<uint32_t> own;
  Global<uint32_t> peer_target;
  uint32_t count;

  DEVICE void operator()() const {
    const uint32_t index = block_index().x * block_size().x + thread_index().x;
    if (index >= count) return;
    own[index] = peer_source[index];
    peer_target[index] = word_to_write(index);
  }
};

template <class Word>
bool all_are(const std::vector<uint32_t>& values, const Word& word) {
  for (uint32_t i = 0; i < values.size(); ++i) {
    if (values[i] != word(i)) return false;
  }
  return true;
}

}  // namespace

std::string try_peer_memory(const Device& device, const Device& peer) {
  constexpr uint32_t count = 4096, threads = ExchangeWords::max_threads;  // four IOMMU pages
  constexpr size_t bytes = count * sizeof(uint32_t);
  Device &here = Device::at(device.index()), &there = Device::at(peer.index());
  const DeviceMemory own(here, bytes), source(there, bytes), target(there, bytes);
  Stream stream(here), peer_stream(there);
  std::vector<uint32_t> words(count);
  for (uint32_t i = 0; i < count; ++i) words[i] = word_to_read(i);
  peer_stream.copy_to_device(source.data(), words.data(), bytes);
  peer_stream.fill(target.data(), 0, bytes);
  peer_stream.synchronize();
  stream.fill(own.data(), 0, bytes);
  launch(stream, {.grid = {count / threads}, .block = {threads}},
         ExchangeWords{source.as<uint32_t>(), own.as<uint32_t>(), target.as<uint32_t>(), count});
  std::vector<uint32_t> got(count), arrived(count);
  stream.copy_to_host(got.data(), own.data(), bytes);
  stream.synchronize();
  peer_stream.copy_to_host(arrived.data(), target.data(), bytes);
  peer_stream.synchronize();
  const bool reads = all_are(got, word_to_read), writes = all_are(arrived, word_to_write);
  if (reads && writes) return "";
  return device.name() + " is said to reach the memory of " + peer.name() + ", but what it " +
         (reads ? "writes there" : "reads there") +
         " is lost (an IOMMU or PCIe's access control services between them: turn them off for these devices)";
}

}  // namespace billfish::BILLFISH_TARGET
