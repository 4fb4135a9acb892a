// Shuffles, votes, atomics, barriers and copies, in kernels that use them as they should.
#include <vector>

#include "primitives/async_copy.h"
#include "primitives/index.h"
#include "primitives/pointer.h"
#include "primitives/reduce.h"
#include "primitives/sync.h"
#include "primitives/warp.h"
#include "support/kernel_testing.h"
#include "support/kernels.h"

namespace billfish::BILLFISH_TARGET {

namespace {

constexpr uint32_t shuffles = 8;

struct Shuffle {
  static constexpr int max_threads = 32;
  Global<int32_t> out;  // [shuffles, 32]

  DEVICE void operator()() const {
    const auto lane = static_cast<int32_t>(lane_index());
    int32_t results[shuffles] = {shuffle(lane, 5),        shuffle(lane, 5, 8),
                                 shuffle_xor(lane, 3),    shuffle_xor(lane, 17, 16),
                                 shuffle_up(lane, 4),     shuffle_down(lane, 3, 8),
                                 shuffle(lane, lane + 1), static_cast<int32_t>(ballot(lane % 3 == 0))};
    if (lane < 16) results[0] = shuffle_xor(lane, 1, 32, 0xffff);
    for (uint32_t i = 0; i < shuffles; ++i) out[i * 32 + lane_index()] = results[i];
  }
};

struct Vote {
  static constexpr int max_threads = 64;
  Global<int32_t> out;

  DEVICE void operator()() const {
    const uint32_t thread = thread_index().x;
    const bool last = thread == 63;
    int32_t votes = any(last) ? 1 : 0;
    votes += all(thread < 32) ? 2 : 0;
    votes += sync_threads_or(last) ? 4 : 0;
    votes += sync_threads_and(!last) ? 8 : 0;
    votes += sync_threads_and(true) ? 16 : 0;
    votes += sync_threads_or(false) ? 32 : 0;
    out[thread] = votes;
  }
};

struct Sum {
  static constexpr int max_threads = 256;
  Global<const float> in;
  Global<float> out;

  DEVICE void operator()() const {
    const float sum = block_sum(in[thread_index().x], shared_memory<float>());
    const float most = block_max(in[thread_index().x], shared_memory<float>());
    const float of_eight = warp_sum<8>(in[thread_index().x]);
    if (thread_index().x == block_size().x - 1) {
      out[0] = sum;
      out[1] = most;
      out[2] = of_eight;
    }
  }
};

struct Count {
  static constexpr int max_threads = 128;
  Global<int32_t> out;
  Global<float> sum;

  DEVICE void operator()() const {
    Shared<int32_t> in_block = shared_memory<int32_t>();
    const bool first = thread_index().x == 0;
    if (first) in_block[0] = 0;
    sync_threads();
    atomic_add(in_block, 1);
    atomic_add(sum, 0.5f);
    sync_threads();
    if (first) atomic_add(out, in_block[0]);
  }
};

// A producer warp and a consumer warp with named barriers, as specialized warps hand buffers over.
struct Handoff {
  static constexpr int max_threads = 64;
  static constexpr int full = 1, empty = 2, rounds = 5;
  Global<int32_t> out;

  DEVICE void operator()() const {
    Shared<int32_t> buffer = shared_memory<int32_t>();
    const auto lane = static_cast<int32_t>(lane_index());
    if (warp_index() == 0) {
      for (int32_t round = 0; round < rounds; ++round) {
        if (round > 0) sync_barrier(empty, 64);
        buffer[lane] = 100 * round + lane;
        arrive_barrier(full, 64);
      }
    } else {
      for (int32_t round = 0; round < rounds; ++round) {
        sync_barrier(full, 64);
        out[32 * round + lane] = buffer[31 - lane];
        if (round + 1 < rounds) arrive_barrier(empty, 64);
      }
    }
  }
};

// Copies of every size, zeros where there is nothing to copy.
struct CopyOrZero {
  static constexpr int max_threads = 32;
  Global<const uint32_t> in;
  Global<uint32_t> out;  // [7, 32]

  DEVICE void operator()() const {
    Shared<uint32_t> four = shared_memory<uint32_t>(), eight = four + 32, sixteen = eight + 64;
    const uint32_t lane = lane_index();
    cp_async_or_zero<4>(four + lane, in + lane, lane % 2 == 0);
    cp_async_commit();
    cp_async_or_zero<8>(eight + 2 * lane, in + 2 * lane, lane < 10);
    cp_async_or_zero<16>(sixteen + 4 * lane, lane < 3 ? in + 4 * lane : nullptr, lane < 3);
    cp_async_commit();
    cp_async_wait<1>();
    sync_warp();
    out[lane] = four[31 - lane];
    cp_async_wait<0>();
    sync_warp();
    for (uint32_t i = lane; i < 6 * 32; i += 32) out[32 + i] = eight[i];
  }
};

}  // namespace

TEST(cuda_synchronization_shuffles) {
  in_every_schedule([] {
    Stream stream(Device::at(0));
    const DeviceMemory out(stream.device(), shuffles * 32 * sizeof(int32_t));
    launch(stream, {.block = {32}}, Shuffle{out.as<int32_t>()});
    const auto results = download<int32_t>(stream, out);
    int32_t votes = 0;
    for (int lane = 0; lane < 32; lane += 3) votes |= 1 << lane;
    for (int lane = 0; lane < 32; ++lane) {
      const int expected[shuffles] = {lane < 16 ? lane ^ 1 : 5,
                                      lane / 8 * 8 + 5,
                                      lane ^ 3,
                                      lane < 16 ? lane : lane ^ 17,  // lane ^ 17 of the lower half lies in the upper
                                      lane < 4 ? lane : lane - 4,
                                      lane % 8 < 5 ? lane + 3 : lane,
                                      (lane + 1) % 32,
                                      votes};
      for (int i = 0; i < static_cast<int>(shuffles); ++i) {
        const int result = results[static_cast<size_t>(i * 32 + lane)];
        CHECK_MESSAGE(result == expected[i], "shuffle " << i << " of lane " << lane << ": " << result);
      }
    }
  });
}

TEST(cuda_synchronization_votes) {
  in_every_schedule([] {
    Stream stream(Device::at(0));
    const DeviceMemory out(stream.device(), 64 * sizeof(int32_t));
    launch(stream, {.block = {64}}, Vote{out.as<int32_t>()});
    const auto results = download<int32_t>(stream, out);
    for (size_t i = 0; i < 64; ++i) CHECK_MESSAGE(results[i] == (i < 32 ? 2 + 4 + 16 : 1 + 4 + 16), results[i]);
  });
}

TEST(cuda_synchronization_reduces) {
  in_every_schedule([] {
    Stream stream(Device::at(0));
    const DeviceMemory in = upload(stream, counting(256)), out(stream.device(), 3 * sizeof(float));
    launch(stream, {.block = {256}, .shared_bytes = 32}, Sum{in.as<float>(), out.as<float>()});
    CHECK(download<float>(stream, out) == (std::vector<float>{255 * 128, 255, 8 * 248 + 28}));
  });
}

TEST(cuda_synchronization_counts) {
  in_every_schedule([] {
    Stream stream(Device::at(0));
    const DeviceMemory out = upload(stream, std::vector<int32_t>(1)), sum = upload(stream, std::vector<float>(1));
    launch(stream, {.grid = {3}, .block = {128}, .shared_bytes = 4}, Count{out.as<int32_t>(), sum.as<float>()});
    CHECK(download<int32_t>(stream, out)[0] == 3 * 128);
    CHECK(download<float>(stream, sum)[0] == 3 * 64);
  });
}

TEST(cuda_synchronization_lets_co_resident_blocks_wait) {
  in_every_schedule([] {
    Stream stream(Device::at(0));
    const DeviceMemory counter = upload(stream, std::vector<int32_t>{0}), seen(stream.device(), 4 * sizeof(int32_t));
    launch(stream, {.grid = {4}, .block = {64}, .co_resident = true},
           WaitForAllBlocks{counter.as<int32_t>(), seen.as<int32_t>()});
    CHECK(download<int32_t>(stream, seen) == std::vector<int32_t>(4, 4));
  });
}

TEST(cuda_synchronization_hands_over_at_named_barriers) {
  in_every_schedule([] {
    Stream stream(Device::at(0));
    const DeviceMemory out(stream.device(), 5 * 32 * sizeof(int32_t));
    launch(stream, {.block = {64}, .shared_bytes = 128}, Handoff{out.as<int32_t>()});
    const auto results = download<int32_t>(stream, out);
    for (int i = 0; i < 5 * 32; ++i) CHECK(results[static_cast<size_t>(i)] == i / 32 * 100 + 31 - i % 32);
  });
}

TEST(cuda_synchronization_copies_or_zeroes) {
  in_every_schedule([] {
    Stream stream(Device::at(0));
    std::vector<uint32_t> values(32);
    for (uint32_t i = 0; i < 32; ++i) values[i] = i + 1;
    const DeviceMemory in = upload(stream, values), out(stream.device(), 7 * 32 * sizeof(uint32_t));
    launch(stream, {.block = {32}, .shared_bytes = 7 * 128}, CopyOrZero{in.as<uint32_t>(), out.as<uint32_t>()});
    const auto results = download<uint32_t>(stream, out);
    for (uint32_t i = 0; i < 32; ++i) CHECK(results[i] == ((31 - i) % 2 == 0 ? 32 - i : 0));
    for (uint32_t i = 0; i < 64; ++i) CHECK(results[32 + i] == (i < 20 ? i + 1 : 0));
    for (uint32_t i = 0; i < 128; ++i) CHECK(results[96 + i] == (i < 12 ? i + 1 : 0));
  });
}

TEST(cuda_synchronization_copies_in_bulk) {
  if (Device::at(0).properties().code_architecture < 90) return;
  in_every_schedule([] {
    Stream stream(Device::at(0));
    const std::vector<float> values = counting(BulkPipeline<true>::elements);
    const DeviceMemory in = upload(stream, values), out(stream.device(), in.bytes());
    launch(stream, BulkPipeline<true>::shape, BulkPipeline<true>{in.as<float>(), out.as<float>()});
    CHECK(download<float>(stream, out) == values);
  });
}

}  // namespace billfish::BILLFISH_TARGET
