#include "runtime/stream.h"

#include <algorithm>
#include <atomic>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "engine/error.h"
#include "machine/device.h"
#include "machine/grid.h"
#include "runtime/launch.h"
#include "runtime/queue.h"

namespace billfish::BILLFISH_TARGET {

// --- Events and graphs. --------------------------------------------------------------------------------------------

Event::Event(Device&, bool) : state_(new State) {}
Event::~Event() = default;

void Event::synchronize() const {
  refuse_while_capturing("A wait for an event on the host");
  if (state_->last != nullptr) reach(*state_->last);
}

float Event::milliseconds(const Event& start, const Event& end) {
  start.synchronize();
  end.synchronize();
  return std::chrono::duration<float, std::milli>(end.state_->last->time - start.state_->last->time).count();
}

Graph::Graph() : state_(new State) {}
Graph::~Graph() = default;
Graph::Graph(Graph&&) noexcept = default;
Graph& Graph::operator=(Graph&&) noexcept = default;

// --- Copies. -------------------------------------------------------------------------------------------------------

// The place of a range of a device's memory. Throws when the range is not the device's, or not in one allocation.
static emulator::AddressSpace& checked(const Device& device, const void* data, size_t bytes, const char* what) {
  emulator::Device& emulated = emulator::device(device.index());
  const auto address = reinterpret_cast<uintptr_t>(data);
  const std::string objection = access_objection(emulated, address, bytes);
  if (!objection.empty() || !emulated.memory.contains(address)) {
    throw Error("INTERNAL", std::string(what) + " " + std::to_string(bytes) + " bytes on " + device.name() +
                                " at an address that " +
                                (objection.empty() ? "is of another device; use copy_from" : objection) + ".");
  }
  return emulated.memory;
}

static void write(const Device& device, void* to, const void* from, size_t bytes) {
  const emulator::AddressSpace& memory = checked(device, to, bytes, "copy_to_device writes");
  const auto address = reinterpret_cast<uintptr_t>(to);
  std::memcpy(memory.bytes_at(address), from, bytes);
  std::memset(memory.written_at(address), emulator::AddressSpace::settled, bytes);
}

static void read(const Device& device, void* to, const void* from, size_t bytes) {
  const emulator::AddressSpace& memory = checked(device, from, bytes, "copy_to_host reads");
  const auto address = reinterpret_cast<uintptr_t>(from);
  const uint8_t* written = memory.written_at(address);
  if (const uint8_t* end = written + bytes, *unwritten = std::find(written, end, 0); unwritten != end) {
    throw Error("INTERNAL", "copy_to_host reads " + std::to_string(bytes) + " bytes from " + memory.describe(address) +
                                ", of which byte " + std::to_string(unwritten - written) + " was never written.");
  }
  std::memcpy(to, memory.bytes_at(address), bytes);
}

static void copy_between(const Device& target, void* to, const Device& source, const void* from, size_t bytes) {
  const emulator::AddressSpace& target_memory = checked(target, to, bytes, "a copy writes");
  const emulator::AddressSpace& source_memory = checked(source, from, bytes, "a copy reads");
  const auto to_address = reinterpret_cast<uintptr_t>(to), from_address = reinterpret_cast<uintptr_t>(from);
  std::memmove(target_memory.bytes_at(to_address), source_memory.bytes_at(from_address), bytes);
  const uint8_t* marks = source_memory.written_at(from_address);
  std::transform(marks, marks + bytes, target_memory.written_at(to_address),
                 [](uint8_t mark) -> uint8_t { return mark == 0 ? 0 : emulator::AddressSpace::settled; });
}

// --- Streams. ------------------------------------------------------------------------------------------------------

Stream::Stream(Device& device)
    : device_(device), overlaps_grids_(may_overlap_grids(device)), state_(new State{device}) {
  note_stream(*state_);
}
Stream::~Stream() { forget_stream(*state_); }

// What would make a GPU refuse the capture.
static void refuse_in_capture(const Stream& stream, const char* call) {
  if (!stream.state().captured) return;
  throw Error("INTERNAL", std::string(call) + " cannot be part of a graph (" + stream.device().name() + ").");
}

// Copies of graphs are not looked at.
static void order_copy_unless_captured(Stream& stream, Touched reads, Touched writes) {
  if (!stream.state().captured) order_copy(stream.state().order, reads, writes);
}

void Stream::copy_to_device(void* to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  order_copy_unless_captured(*this, {}, {to, bytes});
  if (is_pinned(from, bytes)) {
    enqueue_work(*this, [this_device = &device_, to, from, bytes] { write(*this_device, to, from, bytes); });
    return;
  }
  refuse_in_capture(*this, "A copy from memory that is not pinned");
  const auto* first = static_cast<const std::byte*>(from);
  enqueue_work(*this, [this_device = &device_, to, taken = std::vector<std::byte>(first, first + bytes)] {
    write(*this_device, to, taken.data(), taken.size());
  });
}

void Stream::copy_to_host(void* to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  order_copy_unless_captured(*this, {from, bytes}, {});
  const bool pinned = is_pinned(to, bytes);
  if (!pinned) refuse_in_capture(*this, "A copy to memory that is not pinned");
  enqueue_work(*this, [this_device = &device_, to, from, bytes] { read(*this_device, to, from, bytes); });
  if (!pinned) synchronize();
}

void Stream::copy(void* to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  order_copy_unless_captured(*this, {from, bytes}, {to, bytes});
  enqueue_work(
      *this, [this_device = &device_, to, from, bytes] { copy_between(*this_device, to, *this_device, from, bytes); });
}

void Stream::copy_from(const Device& peer, void* to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  order_copy_unless_captured(*this, {from, bytes}, {to, bytes});
  enqueue_work(*this, [this_device = &device_, peer_device = &peer, to, from, bytes] {
    copy_between(*this_device, to, *peer_device, from, bytes);
  });
}

void Stream::fill(void* to, uint8_t value, size_t bytes) {
  if (bytes == 0) return;
  order_copy_unless_captured(*this, {}, {to, bytes});
  enqueue_work(*this, [this_device = &device_, to, value, bytes] {
    const emulator::AddressSpace& memory = checked(*this_device, to, bytes, "fill writes");
    const auto address = reinterpret_cast<uintptr_t>(to);
    std::memset(memory.bytes_at(address), value, bytes);
    std::memset(memory.written_at(address), emulator::AddressSpace::settled, bytes);
  });
}

void Stream::record(Event& event) {
  refuse_in_capture(*this, "An event");
  event.state().last = std::make_shared<Moment>(Moment{state_.get(), progress_of(state_->order), false, nullptr, {}});
  enqueue_entry(*this, {nullptr, nullptr, event.state().last});
}

void Stream::wait(const Event& event) {
  refuse_in_capture(*this, "An event");
  if (event.state().last == nullptr) return;
  learn(state_->order, event.state().last->progress);
  enqueue_entry(*this, {nullptr, event.state().last, nullptr});
}

void Stream::synchronize() {
  device_.check_not_lost();
  refuse_in_capture(*this, "synchronize");
  finish(*state_);
  emulator::device(device_.index()).memory.change_kernel_mark();
}

void Stream::begin_capture() {
  refuse_in_capture(*this, "Another capture");
  state_->captured.emplace();
  state_->captured_by = std::this_thread::get_id();
  note_capture(1);
}

Graph Stream::end_capture() {
  if (!state_->captured) throw Error("INTERNAL", "end_capture without begin_capture on " + device_.name() + ".");
  if (state_->captured_by != std::this_thread::get_id()) {
    throw Error("INTERNAL", "end_capture on another thread than begin_capture on " + device_.name() + ".");
  }
  Graph graph;
  graph.state().work = std::make_shared<const std::vector<Work>>(std::move(*state_->captured));
  abandon_capture();
  return graph;
}

void Stream::abandon_capture() noexcept {
  state_->captured.reset();
  note_capture(-1);
}

void Stream::launch(const Graph& graph) {
  refuse_in_capture(*this, "A graph");
  if (graph.state().work == nullptr) throw Error("INTERNAL", "An empty graph cannot be launched.");
  std::atomic<int>& refused = emulator::device(device_.index()).refused_graphs;
  if (refused > 0) {
    --refused;
    throw Error("INTERNAL", "A graph is refused on " + device_.name() + ".");
  }
  ++launch_counts().graphs;
  enqueue_work(*this, [all = graph.state().work] {
    for (const Work& work : *all) work();
  });
}

void Device::synchronize() const {
  refuse_while_capturing("A wait for a device");
  finish_all(*this);
}

// --- Kernels. ------------------------------------------------------------------------------------------------------

// BILLFISH_EMULATED_LOSS=N:M loses device N at its launch M.
static void lose_where_wanted(const Device& device) {
  const char* const wanted = std::getenv("BILLFISH_EMULATED_LOSS");
  if (wanted == nullptr || *wanted == '\0') return;
  int index = -1;
  uint64_t launch = 0;
  if (std::sscanf(wanted, "%d:%" SCNu64, &index, &launch) != 2) {
    throw Error("INVALID_OPTION", "BILLFISH_EMULATED_LOSS is '" + std::string(wanted) + "'; it must be device:launch.");
  }
  static std::atomic<uint64_t> launches = 0;
  if (device.index() == index && ++launches == launch) device.mark_lost("launch " + std::to_string(launch) + " failed");
}

static emulator::Index index_of(const GridSize& size) { return {size.x, size.y, size.z}; }

void enqueue(Stream& stream, const LaunchShape& shape, uint32_t max_threads, std::string kernel,
             std::function<void()> body) {
  const Device& device = stream.device();
  lose_where_wanted(device);
  device.check_not_lost();
  const DeviceProperties& properties = device.properties();
  const emulator::Index grid = index_of(shape.grid), block = index_of(shape.block);
  constexpr uint64_t resident_threads = 2048, max_blocks_y = 65535;
  std::string objection;
  if (block.count() == 0 || block.count() > max_threads) {
    objection =
        "blocks of " + std::to_string(block.count()) + " threads; its max_threads is " + std::to_string(max_threads);
  } else if (grid.count() == 0 || grid.y > max_blocks_y || grid.z > max_blocks_y) {
    objection = "a grid of " + grid.text() + " blocks; each number must be at least 1, y and z at most 65535";
  } else if (shape.shared_bytes > properties.shared_bytes_per_block) {
    objection = std::to_string(shape.shared_bytes) + " bytes of shared memory; a block can have " +
                std::to_string(properties.shared_bytes_per_block);
  } else if (shape.co_resident) {
    constexpr uint32_t reserved = 1024;  // of each block, by the system
    const uint64_t by_shared = properties.shared_bytes_per_multiprocessor / (shape.shared_bytes + reserved);
    const uint64_t most =
        std::min(by_shared, resident_threads / block.count()) * static_cast<uint64_t>(properties.multiprocessors);
    if (grid.count() > most) {
      objection = std::to_string(grid.count()) + " co-resident blocks; there is room for " + std::to_string(most);
    }
  }
  if (!objection.empty()) {
    throw Error("INTERNAL",
                "Kernel " + kernel + " on " + device.name() + " cannot be launched with " + objection + ".");
  }
  emulator::Launch launch{&emulator::device(device.index()),
                          std::move(kernel),
                          grid,
                          block,
                          shape.shared_bytes,
                          shape.co_resident,
                          shape.programmatic && stream.overlaps_grids(),
                          emulator::Schedule::current(),
                          std::move(body)};
  ++(stream.state().captured ? launch_counts().recorded : launch_counts().kernels);
  enqueue_work(stream, [launch = std::move(launch)] { emulator::run(launch); });
}

}  // namespace billfish::BILLFISH_TARGET
