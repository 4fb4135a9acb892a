// Streams and events of emulated devices: order within a stream, none between streams but by events.
#include <atomic>
#include <thread>
#include <vector>

#include "primitives/index.h"
#include "primitives/pointer.h"
#include "runtime/queue.h"
#include "support/kernel_testing.h"

using namespace billfish::emulated;

namespace {

struct AddOne {
  static constexpr int max_threads = 32;
  Global<int32_t> values;

  DEVICE void operator()() const { values[thread_index().x] += 1; }
};

constexpr LaunchShape one_warp{.block = {32}};
constexpr size_t bytes = 32 * sizeof(int32_t);

// One step of two stages: the first adds one, the second takes the result over and adds one.
template <bool with_wait>
std::vector<int32_t> hand_off() {
  Stream first(Device::at(0)), second(Device::at(1));
  Event done(Device::at(0));
  const DeviceMemory from = upload(first, std::vector<int32_t>(32, 10));
  const DeviceMemory to(Device::at(1), bytes);
  launch(first, one_warp, AddOne{from.as<int32_t>()});
  first.record(done);
  if constexpr (with_wait) second.wait(done);
  second.copy_from(Device::at(0), to.data(), from.data(), bytes);
  launch(second, one_warp, AddOne{to.as<int32_t>()});
  return download<int32_t>(second, to);
}

}  // namespace

TEST(emulator_stream_hands_over_by_events) {
  in_every_schedule([] { CHECK(hand_off<true>() == std::vector<int32_t>(32, 12)); });
}

TEST(emulator_stream_catches_a_missing_event_wait) {
  in_every_schedule([] { CHECK_COMPLAINT(complaint([] { hand_off<false>(); }), "waits for no event"); });
}

// A buffer that is filled and fetched again and again, as between two stages: in the second round each of the two waits
// can be left out, and the bytes that are then read or overwritten have all been written before.
TEST(emulator_stream_catches_a_missing_wait_for_a_buffer_in_use) {
  enum class Without { nothing, filled, taken };
  const auto rounds = [](Without without) {
    Stream sender(Device::at(0)), receiver(Device::at(1));
    Event filled(Device::at(0)), taken(Device::at(1));
    const DeviceMemory source = upload(sender, std::vector<int32_t>(32, 1)), buffer(Device::at(0), bytes);
    const DeviceMemory to(Device::at(1), bytes);
    for (int round = 0; round < 2; ++round) {
      if (round == 0 || without != Without::taken) sender.wait(taken);
      sender.copy(buffer.data(), source.data(), bytes);
      sender.record(filled);
      if (round == 0 || without != Without::filled) receiver.wait(filled);
      receiver.copy_from(Device::at(0), to.data(), buffer.data(), bytes);
      receiver.record(taken);
    }
    return download<int32_t>(receiver, to);
  };
  in_every_schedule([&] {
    CHECK(rounds(Without::nothing) == std::vector<int32_t>(32, 1));
    CHECK_COMPLAINT(complaint([&] { rounds(Without::filled); }), "A copy reads 128 bytes");
    CHECK_COMPLAINT(complaint([&] { rounds(Without::taken); }), "that a copy of another stream reads");
  });
}

TEST(emulator_stream_knows_what_the_host_has_waited_for) {
  in_every_schedule([] {
    Stream first(Device::at(0)), second(Device::at(0));
    Event done(Device::at(0));
    const DeviceMemory values = upload(first, std::vector<int32_t>(32, 1)), others(Device::at(0), bytes);
    first.record(done);
    first.copy(others.data(), values.data(), bytes);
    done.synchronize();
    second.copy_from(Device::at(0), others.data(), values.data(), 0);  // nothing
    CHECK(download<int32_t>(second, values) == std::vector<int32_t>(32, 1));
    CHECK_COMPLAINT(complaint([&] { second.fill(others.data(), 0, bytes); }), "waits for no event");
    first.synchronize();
    second.fill(others.data(), 0, bytes);
    CHECK(download<int32_t>(second, others) == std::vector<int32_t>(32, 0));
  });
}

TEST(emulator_stream_keeps_its_order) {
  in_every_schedule([] {
    Stream stream(Device::at(0));
    const DeviceMemory values(Device::at(0), bytes), copies(Device::at(0), bytes);
    stream.fill(values.data(), 0, bytes);
    launch(stream, one_warp, AddOne{values.as<int32_t>()});
    stream.copy(copies.data(), values.data(), bytes);
    launch(stream, one_warp, AddOne{values.as<int32_t>()});
    CHECK(download<int32_t>(stream, copies) == std::vector<int32_t>(32, 1));
    CHECK(download<int32_t>(stream, values) == std::vector<int32_t>(32, 2));
  });
}

TEST(emulator_stream_reads_pinned_memory_late_and_other_memory_at_once) {
  const ScheduleScope scope(Schedule::in_order());
  Stream stream(Device::at(0));
  const DeviceMemory pinned_copy(Device::at(0), bytes), plain_copy(Device::at(0), bytes);
  PinnedMemory pinned(Device::at(0), bytes);
  std::vector<int32_t> plain(32, 1);
  for (int i = 0; i < 32; ++i) pinned.as<int32_t>()[i] = 1;
  stream.copy_to_device(pinned_copy.data(), pinned.data(), bytes);
  stream.copy_to_device(plain_copy.data(), plain.data(), bytes);
  for (int i = 0; i < 32; ++i) pinned.as<int32_t>()[i] = 2;  // too early: the mistake that shows
  plain.assign(32, 2);
  CHECK(download<int32_t>(stream, pinned_copy) == std::vector<int32_t>(32, 2));
  CHECK(download<int32_t>(stream, plain_copy) == std::vector<int32_t>(32, 1));
}

TEST(emulator_stream_refuses_copies_out_of_bounds) {
  Device &own = Device::at(6), &other = Device::at(7);  // which no test gives each other's memory
  Stream stream(own);
  const DeviceMemory memory(own, bytes), foreign(other, bytes);
  std::vector<int32_t> values(64);
  const auto to = [&](void* target, size_t count) {
    return complaint([&] {
      stream.copy_to_device(target, values.data(), count);
      stream.synchronize();
    });
  };
  CHECK(to(memory.data(), bytes).empty());
  CHECK_COMPLAINT(to(memory.data(), bytes + 4), "4 bytes past the end");
  CHECK_COMPLAINT(to(foreign.data(), bytes), "emulated:7");
  CHECK_COMPLAINT(to(values.data(), bytes), "memory of the host?");
  CHECK(to(memory.data(), bytes).empty());  // an error is told once
}

TEST(emulator_stream_reports_failures_to_waiting_streams) {
  in_every_schedule([] {
    Stream first(Device::at(0)), second(Device::at(1));
    Event done(Device::at(0));
    launch(first, one_warp, AddOne{nullptr});
    first.record(done);
    second.wait(done);
    CHECK_COMPLAINT(complaint([&] { second.synchronize(); }), "null pointer");
    CHECK_COMPLAINT(complaint([&] { done.synchronize(); }), "null pointer");
    CHECK_COMPLAINT(complaint([&] { first.synchronize(); }), "null pointer");
    first.synchronize();
    second.synchronize();
  });
}

TEST(emulator_stream_records_graphs) {
  in_every_schedule([] {
    Stream stream(Device::at(0));
    const DeviceMemory values = upload(stream, std::vector<int32_t>(32, 0));
    const Graph graph = stream.capture([&] {
      launch(stream, one_warp, AddOne{values.as<int32_t>()});
      launch(stream, one_warp, AddOne{values.as<int32_t>()});
      CHECK_COMPLAINT(complaint([&] { stream.synchronize(); }), "cannot be part of a graph");
    });
    const uint64_t launched = launch_counts().graphs;
    CHECK(download<int32_t>(stream, values) == std::vector<int32_t>(32, 0));
    for (int i = 0; i < 3; ++i) stream.launch(graph);
    CHECK(download<int32_t>(stream, values) == std::vector<int32_t>(32, 6));
    CHECK(launch_counts().graphs == launched + 3);
  });
}

TEST(emulator_stream_refuses_what_a_capture_refuses) {
  Stream stream(Device::at(0)), other(Device::at(0));
  Event event(Device::at(0));
  other.record(event);
  const DeviceMemory values = upload(stream, std::vector<int32_t>(32, 0));
  std::vector<int32_t> plain(32);
  const Graph nothing = stream.capture([] {});
  stream.begin_capture();
  const auto refused = [](auto call, const char* part) { CHECK_COMPLAINT(complaint(call), part); };
  refused([&] { stream.begin_capture(); }, "Another capture");
  refused([&] { stream.launch(nothing); }, "A graph cannot be part of a graph");
  refused([&] { stream.record(event); }, "An event");
  refused([&] { stream.wait(event); }, "An event");
  refused([&] { event.synchronize(); }, "while this thread records a graph");
  refused([&] { stream.copy_to_device(values.data(), plain.data(), bytes); }, "not pinned");
  refused([&] { stream.copy_to_host(plain.data(), values.data(), bytes); }, "not pinned");
  refused([&] { DeviceMemory(Device::at(0), 64); }, "An allocation");
  refused([&] { PinnedMemory(Device::at(0), 64); }, "An allocation");
  refused([&] { Device::at(0).synchronize(); }, "A wait for a device");
  std::thread([&] { refused([&] { stream.end_capture(); }, "another thread"); }).join();
  stream.abandon_capture();
  refused([&] { stream.end_capture(); }, "without begin_capture");
  refused([&] { stream.capture([&] { stream.synchronize(); }); }, "synchronize");
  refused([&] { stream.launch(Graph()); }, "An empty graph");
  launch(stream, one_warp, AddOne{values.as<int32_t>()});
  CHECK(download<int32_t>(stream, values) == std::vector<int32_t>(32, 1));
}

TEST(emulator_stream_measures_time) {
  Stream stream(Device::at(0));
  Event start(Device::at(0), true), end(Device::at(0), true);
  const DeviceMemory values = upload(stream, std::vector<int32_t>(32, 0));
  stream.record(start);
  launch(stream, one_warp, AddOne{values.as<int32_t>()});
  stream.record(end);
  CHECK(Event::milliseconds(start, end) > 0);
}

// Four stages on four devices, each fed by a thread of its own, as the pipeline does it.
TEST(emulator_stream_serves_several_threads) {
  constexpr int stages = 4, steps = 20;
  struct Stage {
    explicit Stage(int index)
        : stream(Device::at(index)), filled(Device::at(index)), values(Device::at(index), bytes) {}
    Stream stream;
    Event filled;
    DeviceMemory values;
    std::atomic<int> recorded = 0;
  };
  std::vector<std::unique_ptr<Stage>> all;
  for (int i = 0; i < stages; ++i) all.push_back(std::make_unique<Stage>(i));
  std::vector<std::thread> threads;
  std::vector<int32_t> last(32);
  for (int i = 0; i < stages; ++i) {
    threads.emplace_back([&, i] {
      Stage& stage = *all[static_cast<size_t>(i)];
      for (int step = 1; step <= steps; ++step) {
        if (i == 0) {
          stage.stream.fill(stage.values.data(), 0, bytes);
        } else {
          Stage& before = *all[static_cast<size_t>(i) - 1];
          while (before.recorded < step) std::this_thread::yield();
          stage.stream.wait(before.filled);
          stage.stream.copy_from(before.stream.device(), stage.values.data(), before.values.data(), bytes);
        }
        launch(stage.stream, one_warp, AddOne{stage.values.as<int32_t>()});
        stage.stream.record(stage.filled);
        ++stage.recorded;
        if (i + 1 < stages) {  // until it has been taken over
          const Stage& behind = *all[static_cast<size_t>(i) + 1];
          while (behind.recorded < step) std::this_thread::yield();
          stage.stream.wait(behind.filled);
        } else {
          stage.stream.copy_to_host(last.data(), stage.values.data(), bytes);
          CHECK(last == std::vector<int32_t>(32, stages));
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}
