// Sums over the memories of several devices (on a GPU: of one).
#include "layer/rank_sum.h"

#include <memory>

#include "backend/rank_exchange.h"
#include "primitives/numbers.h"
#include "runtime/memory.h"
#include "support/kernel_numbers.h"
#include "support/kernel_testing.h"

using namespace billfish;
using namespace billfish::BILLFISH_TARGET;

namespace {

// The fewest rows for which two shots pay.
int64_t crossover(int ranks, int64_t columns) {
  const TwoShot two_shot;
  int64_t rows = 1;
  while (!two_shot.pays(ranks, rows, columns, 2)) ++rows;
  return rows;
}

#ifdef BILLFISH_GPU_TESTS
Device& device_of(int) { return Device::at(0); }
#else
// Devices that no other test needs to be out of each other's reach, which they are only as long as nobody asks.
// Not emulated:12, which another test of the process loses.
Device& device_of(int rank) { return Device::at(rank == 4 ? 5 : 8 + rank); }
#endif

struct RankMemory {
  RankMemory(int rank, const std::vector<float>& values, size_t out_elements)
      : stream(device_of(rank)),
        ready(device_of(rank)),
        x(upload(stream, values)),
        out(device_of(rank), out_elements * 4) {
    stream.fill(out.data(), 0, out.bytes());
    stream.record(ready);
  }
  Stream stream;
  Event ready;
  DeviceMemory x, out;
};

}  // namespace

TEST(cuda_rank_sum_adds_in_the_order_of_ranks) {
  for (const int ranks : {2, 3, 8}) {
    for (const int64_t columns : {8, 136, 51}) {
      constexpr int64_t rows = 3;
      std::vector<std::vector<float>> values;
      for (int rank = 0; rank < ranks; ++rank) {
        values.push_back(random_floats(static_cast<size_t>(rows * columns), static_cast<unsigned>(rank + 1)));
      }
      in_every_schedule([&] {
        std::vector<std::unique_ptr<RankMemory>> memory;
        std::vector<Matrix<const float>> x;
        for (int rank = 0; rank < ranks; ++rank) {
          memory.push_back(std::make_unique<RankMemory>(rank, values[static_cast<size_t>(rank)], rows * columns));
          x.push_back({memory.back()->x.as<float>(), rows, columns, columns});
        }
        for (int rank = 0; rank < ranks; ++rank) {
          RankMemory& own = *memory[static_cast<size_t>(rank)];
          for (int peer = 0; peer < ranks; ++peer) {
            if (peer == rank) continue;
            CHECK(own.stream.device().can_access(device_of(peer)));
            own.stream.wait(memory[static_cast<size_t>(peer)]->ready);
          }
          sum_ranks<float>(own.stream, x.data(), ranks, Matrix<float>{own.out.as<float>(), rows, columns, columns});
        }
        for (const auto& own : memory) {
          const std::vector<float> got = download<float>(own->stream, own->out);
          for (size_t i = 0; i < got.size(); ++i) {
            float expected = values[0][i];
            for (int rank = 1; rank < ranks; ++rank) expected += values[static_cast<size_t>(rank)][i];
            CHECK_MESSAGE(got[i] == expected, "element " << i << " is " << got[i] << ", not " << expected);
          }
        }
      });
    }
  }
}

TEST(cuda_rank_sum_in_two_shots_is_that_in_one) {
  constexpr int ranks = 3;
  for (const int64_t columns : {8, 136, 51}) {
    constexpr int64_t rows = 3;
    in_every_schedule([&] {
      std::vector<std::unique_ptr<RankMemory>> memory;
      std::vector<Matrix<const float>> x;
      std::vector<Matrix<half>> sums;
      for (int rank = 0; rank < ranks; ++rank) {
        const auto seed = static_cast<unsigned>(rank + 1);
        memory.push_back(std::make_unique<RankMemory>(rank, random_floats(static_cast<size_t>(rows * columns), seed),
                                                      rows * columns));
        x.push_back({memory.back()->x.as<float>(), rows, columns, columns});
        sums.push_back({memory.back()->out.as<half>(), rows, columns, columns});
      }
      const auto wait_for_others = [&](int rank) {
        for (int peer = 0; peer < ranks; ++peer) {
          CHECK(device_of(rank).can_access(device_of(peer)));
          if (peer != rank) memory[static_cast<size_t>(rank)]->stream.wait(memory[static_cast<size_t>(peer)]->ready);
        }
      };
      RankMemory& first = *memory[0];
      wait_for_others(0);
      const DeviceMemory in_one(first.stream.device(), first.out.bytes());
      first.stream.fill(in_one.data(), 0, in_one.bytes());
      sum_ranks(first.stream, x.data(), ranks, Matrix<half>{in_one.as<half>(), rows, columns, columns});
      for (int rank = 0; rank < ranks; ++rank) {
        RankMemory& own = *memory[static_cast<size_t>(rank)];
        if (rank > 0) wait_for_others(rank);
        sum_share(own.stream, x.data(), ranks, rank, sums[static_cast<size_t>(rank)]);
      }
      for (const auto& own : memory) own->stream.record(own->ready);
      for (int rank = 0; rank < ranks; ++rank) {
        wait_for_others(rank);
        gather_shares(memory[static_cast<size_t>(rank)]->stream, sums.data(), ranks, rank);
      }
      for (const auto& own : memory) {
        CHECK(download<uint8_t>(own->stream, own->out) == download<uint8_t>(first.stream, in_one));
      }
    });
  }
}

TEST(cuda_rank_sum_refuses_more_ranks_than_it_takes) {
  Stream stream(Device::at(0));
  const std::vector<Matrix<const float>> x(max_ranks + 1, Matrix<const float>{nullptr, 1, 8, 8});
  CHECK_THROWS(sum_ranks<float>(stream, x.data(), max_ranks + 1, Matrix<float>{nullptr, 1, 8, 8}), "INVALID_OPTION");
}

TEST(cuda_two_shot_pays_sooner_for_more_ranks) {
  CHECK(crossover(2, 8192) == 384);
  CHECK(crossover(3, 8192) == 97);
  CHECK(crossover(4, 8192) == 52);
  CHECK(crossover(8, 8192) == 17);
}

TEST(cuda_two_shot_follows_the_environment) {
  {
    const Variable always("BILLFISH_CUDA_TWO_SHOT", "0");
    CHECK(TwoShot().pays(2, 1, 8, 4));  // which saves nothing
  }
  {
    const Variable never("BILLFISH_CUDA_TWO_SHOT", "never");
    CHECK(!TwoShot().pays(8, 1 << 20, 8192, 2));
  }
  const Variable columns("BILLFISH_CUDA_TWO_SHOT", "8192");
  CHECK(crossover(2, 8192) == 1);
}
