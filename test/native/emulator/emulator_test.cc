// The emulator runs kernels that synchronize as they should, in all schedules, and says what is wrong with the others.
#include <vector>

#include "cuda/backend/device_backend.h"
#include "primitives/async_copy.h"
#include "primitives/index.h"
#include "primitives/pointer.h"
#include "primitives/sync.h"
#include "primitives/warp.h"
#include "support/kernel_testing.h"
#include "support/kernels.h"

using namespace billfish::emulated;

namespace {

// How each block hands values from one thread to another by way of shared memory, and what it may forget.
enum class Handover {
  barrier,
  no_barrier,
  named_barrier,
  cp_async,
  cp_async_without_wait,
  cp_async_with_weak_wait,
  cp_async_without_barrier
};

// Each block reverses its values.
template <Handover handover>
struct ReverseBlock {
  static constexpr int max_threads = 256;
  Global<const float> in;
  Global<float> out;

  DEVICE void operator()() const {
    Shared<float> buffer = shared_memory<float>();
    const uint32_t thread = thread_index().x, first = block_index().x * block_size().x;
    if constexpr (handover >= Handover::cp_async) {
      cp_async<4>(buffer + thread, in + first + thread);
      cp_async_commit();
      if constexpr (handover == Handover::cp_async_with_weak_wait) {
        cp_async_wait<1>();  // lets the newest group be in flight, and there is but one
      } else if constexpr (handover != Handover::cp_async_without_wait) {
        cp_async_wait<0>();
      }
    } else {
      buffer[thread] = in[first + thread];
    }
    if constexpr (handover == Handover::named_barrier) {
      sync_barrier(1, static_cast<int>(block_size().x));
    } else if constexpr (handover != Handover::no_barrier && handover != Handover::cp_async_without_barrier) {
      sync_threads();
    }
    out[first + thread] = buffer[block_size().x - 1 - thread];
  }
};

template <Handover handover>
std::string reverse() {
  Stream stream(Device::at(0));
  const std::vector<float> values = counting(1024);
  const DeviceMemory in = upload(stream, values), out(Device::at(0), in.bytes());
  const std::string complained = launch_complaint(stream, {.grid = {4}, .block = {256}, .shared_bytes = 1024},
                                                  ReverseBlock<handover>{in.as<float>(), out.as<float>()});
  if (!complained.empty()) return complained;
  const auto result = download<float>(stream, out);
  for (size_t i = 0; i < result.size(); ++i) CHECK(result[i] == values[i / 256 * 256 + 255 - i % 256]);
  return "";
}

// The first block to run writes its shared memory; the others read theirs, which no one has written.
struct ReadAnotherBlocksMemory {
  static constexpr int max_threads = 32;
  Global<int32_t> first;  // 0 until a block has come

  DEVICE void operator()() const {
    Shared<int32_t> shared = shared_memory<int32_t>();
    if (atomic_add(first, 1) == 0) shared[0] = 7;
    first[0] = shared[0];
  }
};

// Two buffers in turn, each written while the other is read. One barrier a round is enough; none at the end of a round
// lets fast warps overwrite what slow ones still read.
template <bool with_second_barrier>
struct RotateManyTimes {
  static constexpr int max_threads = 128;
  Global<int32_t> out;

  DEVICE void operator()() const {
    Shared<int32_t> buffer = shared_memory<int32_t>();
    const uint32_t thread = thread_index().x, threads = block_size().x;
    auto value = static_cast<int32_t>(thread);
    for (int round = 0; round < 8; ++round) {
      buffer[thread] = value;
      sync_threads();
      value = buffer[(thread + 33) % threads];
      if constexpr (with_second_barrier) sync_threads();
    }
    out[thread] = value;
  }
};

template <bool with_second_barrier>
bool rotates() {
  Stream stream(Device::at(0));
  const DeviceMemory out(Device::at(0), 128 * sizeof(int32_t));
  launch(stream, {.block = {128}, .shared_bytes = 512}, RotateManyTimes<with_second_barrier>{out.as<int32_t>()});
  const auto values = download<int32_t>(stream, out);
  for (int i = 0; i < 128; ++i) {
    if (values[static_cast<size_t>(i)] != (i + 8 * 33) % 128) return false;
  }
  return true;
}

enum class Misstep { barrier_in_branches, barrier_not_reached, lanes_part, shuffle_from_outside, wrong_barrier_count };

template <Misstep misstep>
struct Stumble {
  static constexpr int max_threads = 64;

  DEVICE void operator()() const {
    const uint32_t thread = thread_index().x;
    if constexpr (misstep == Misstep::barrier_in_branches) {
      if (thread < 32) {
        sync_threads();
      } else {
        sync_threads();
      }
    } else if constexpr (misstep == Misstep::barrier_not_reached) {
      if (thread >= 40) return;
      sync_threads();
    } else if constexpr (misstep == Misstep::lanes_part) {
      if (thread % 2 == 0) {
        shuffle_xor(1.0f, 1);
      } else {
        ballot(true);
      }
    } else if constexpr (misstep == Misstep::shuffle_from_outside) {
      if (thread % 32 < 16) shuffle(thread, 20, 32, 0xffff);
    } else {
      sync_barrier(2, thread < 32 ? 32 : 64);
      if (thread < 32) sync_barrier(3, 33);
    }
  }
};

template <Misstep misstep>
std::string stumble() {
  Stream stream(Device::at(0));
  return launch_complaint(stream, {.block = {64}}, Stumble<misstep>{});
}

}  // namespace

TEST(emulator_runs_the_self_test) {
  in_every_schedule([] {
    billfish::emulated::self_test(0);
    billfish::emulated::self_test(3);
  });
}

TEST(emulator_hands_values_over_at_barriers) {
  in_every_schedule([] {
    CHECK(reverse<Handover::barrier>().empty());
    CHECK(reverse<Handover::named_barrier>().empty());
    CHECK(reverse<Handover::cp_async>().empty());
    CHECK(rotates<true>());
  });
}

TEST(emulator_catches_a_missing_barrier) {
  in_every_schedule([] {
    CHECK_COMPLAINT(reverse<Handover::no_barrier>(), "shared memory");
    CHECK_COMPLAINT(reverse<Handover::no_barrier>(), "was never written");
    CHECK_COMPLAINT(reverse<Handover::cp_async_without_barrier>(), "was never written");
    CHECK(!rotates<false>());
  });
}

TEST(emulator_catches_a_missing_wait_for_a_copy) {
  in_every_schedule([] {
    CHECK_COMPLAINT(reverse<Handover::cp_async_without_wait>(), "a copy that was not waited for");
    CHECK_COMPLAINT(reverse<Handover::cp_async_with_weak_wait>(), "a copy that was not waited for");
    Stream stream(Device::at(0));
    const DeviceMemory in = upload(stream, counting(BulkPipeline<false>::elements)), out(Device::at(0), in.bytes());
    CHECK_COMPLAINT(
        launch_complaint(stream, BulkPipeline<false>::shape, BulkPipeline<false>{in.as<float>(), out.as<float>()}),
        "a copy that was not waited for");
  });
}

TEST(emulator_gives_every_block_shared_memory_of_its_own) {
  in_every_schedule([] {
    Stream stream(Device::at(0));
    const DeviceMemory first = upload(stream, std::vector<int32_t>{0});
    const LaunchShape shape{.grid = {2}, .shared_bytes = 4};
    CHECK_COMPLAINT(launch_complaint(stream, shape, ReadAnotherBlocksMemory{first.as<int32_t>()}), "was never written");
  });
}

TEST(emulator_lets_co_resident_blocks_wait_for_each_other) {
  in_every_schedule([] {
    Stream stream(Device::at(0));
    const DeviceMemory counter = upload(stream, std::vector<int32_t>{0}), seen(Device::at(0), 4 * sizeof(int32_t));
    const WaitForAllBlocks kernel{counter.as<int32_t>(), seen.as<int32_t>()};
    launch(stream, {.grid = {4}, .block = {64}, .co_resident = true}, kernel);
    CHECK(download<int32_t>(stream, seen) == std::vector<int32_t>(4, 4));

    stream.fill(counter.data(), 0, sizeof(int32_t));
    CHECK_COMPLAINT(launch_complaint(stream, {.grid = {4}, .block = {64}}, kernel), "co_resident");
    CHECK_COMPLAINT(launch_complaint(stream, {.grid = {1000}, .block = {64}, .co_resident = true}, kernel),
                    "there is room for 128");
  });
}

TEST(emulator_catches_divergent_threads) {
  in_every_schedule([] {
    CHECK_COMPLAINT(stumble<Misstep::barrier_in_branches>(), "the block has parted");
    CHECK_COMPLAINT(stumble<Misstep::barrier_not_reached>(), "24 thread(s), the first (40, 0, 0)");
    CHECK_COMPLAINT(stumble<Misstep::barrier_not_reached>(), "wait at sync_threads (emulator_test.cc:");
    CHECK_COMPLAINT(stumble<Misstep::lanes_part>(), "the lanes of a warp have parted");
    CHECK_COMPLAINT(stumble<Misstep::shuffle_from_outside>(), "asks for the value of lane 20, which takes no part");
    CHECK_COMPLAINT(stumble<Misstep::wrong_barrier_count>(), "barrier");
  });
}

TEST(emulator_has_older_devices) {
  CHECK(Device::at(0).properties().compute_capability == 90);
  Stream stream(Device::at(8));
  CHECK(stream.device().properties().compute_capability == 80);
  const DeviceMemory in = upload(stream, counting(BulkPipeline<true>::elements)), out(stream.device(), in.bytes());
  CHECK_COMPLAINT(
      launch_complaint(stream, BulkPipeline<true>::shape, BulkPipeline<true>{in.as<float>(), out.as<float>()}),
      "needs compute capability 9.0, and the code is for 8.0 on a device of 8.0");
}

TEST(emulator_names_the_kernel_and_the_thread) {
  const std::string complained = reverse<Handover::no_barrier>();
  CHECK_COMPLAINT(complained, "ReverseBlock<");
  CHECK_COMPLAINT(complained, "block (0, 0, 0), thread (0, 0, 0)");
  CHECK_COMPLAINT(complained, "emulated:0");
  CHECK_COMPLAINT(complained, "schedule in-order");
}

TEST(emulator_refuses_launches_that_a_gpu_would) {
  Stream stream(Device::at(0));
  const Stumble<Misstep::lanes_part> kernel;
  CHECK_COMPLAINT(launch_complaint(stream, {.block = {65}}, kernel), "max_threads is 64");
  CHECK_COMPLAINT(launch_complaint(stream, {.grid = {0}, .block = {64}}, kernel), "at least 1");
  CHECK_COMPLAINT(launch_complaint(stream, {.block = {64}, .shared_bytes = 300'000}, kernel), "shared memory");
}
