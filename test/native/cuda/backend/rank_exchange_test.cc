// Ranks on emulated devices, each on a thread of its own, that sum in one shot, in two and through NCCL (the tests'
// own), and gather: what comes out.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>

#include "backends.h"
#include "engine/program.h"
#include "engine/rank_group.h"
#include "support/kernel_numbers.h"
#include "support/kernel_testing.h"

using namespace billfish;

namespace {

struct Size {
  int ranks;
  int64_t rows, columns;
};

// Ranks that hold x[rank], fp32, and have an `out` for it; strides are those of the columns.
class Ranks {
 public:
  Ranks(const Size& size, DType out_type, DType activation_type) : size_(size), group_(size.ranks) {
    std::vector<Backend*> backends;
    for (int rank = 0; rank < size.ranks; ++rank) {
      const auto seed = static_cast<unsigned>(rank + 1);
      x_.push_back(random_floats(static_cast<size_t>(size.rows * size.columns), seed));
      backends_.push_back(make_backend("emulated:" + std::to_string(8 + rank), {false, DType::f16, activation_type}));
      backends.push_back(backends_.back().get());
      x_tensors_.push_back(tensor(rank, DType::f32, size.columns));
      out_tensors_.push_back(tensor(rank, out_type, size.columns));
      other_outs_.push_back(tensor(rank, out_type, size.columns));
    }
    group_.set_link(backends[0]->link(backends));
    group_.set_backends(std::move(backends));
  }

  const std::vector<std::vector<float>>& x() const { return x_; }
  Backend& backend(int rank) { return *backends_[static_cast<size_t>(rank)]; }
  RankGroup& group() { return group_; }
  const Tensor& out(int rank) const { return out_tensors_[static_cast<size_t>(rank)]; }
  Tensor tensor(int rank, DType type, int64_t columns) {
    const auto bytes = static_cast<size_t>(size_.rows * columns) * byte_size(type);
    return {backend(rank).allocate(bytes, MemoryUse::buffers), type, size_.rows, columns, columns};
  }

  // Each rank's exchange, as a stage does it, and one of other numbers behind it, with another result: they are what is
  // read too late, as zeros are what is read too early.
  void exchange(const std::function<void(Backend&, int rank)>& operation, const Schedule& schedule,
                const std::vector<GatheredPiece>* pieces = nullptr) {
    group_.begin();
    std::vector<std::thread> threads;
    for (int rank = 0; rank < size_.ranks; ++rank) {
      threads.emplace_back([&, rank] {
        const ScheduleScope scope(schedule);
        const auto index = static_cast<size_t>(rank);
        try {
          const std::vector<float> others(x_[index].size(), 1000);
          for (int turn = 0; turn < 2; ++turn) {
            backend(rank).from_host((turn == 0 ? x_[index] : others).data(), x_tensors_[index]);
            backend(rank).publish();
            group_.publish(
                rank, {&backend(rank), x_tensors_[index], (turn == 0 ? out_tensors_ : other_outs_)[index], pieces});
            group_.barrier();
            operation(backend(rank), rank);
            group_.barrier();
            backend(rank).release(group_);
          }
        } catch (...) {
          group_.fail(std::current_exception());
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    group_.end();
  }

  // The bits of rank's out.
  std::vector<uint8_t> out_bits(int rank) {
    emulated::Stream stream(emulated::Device::at(8 + rank));
    const Tensor& tensor = out(rank);
    std::vector<uint8_t> bits(static_cast<size_t>(size_.rows * size_.columns) * byte_size(tensor.type));
    backend(rank).drain();
    stream.copy_to_host(bits.data(), tensor.data, bits.size());
    return bits;
  }

 private:
  Size size_;
  std::vector<std::vector<float>> x_;
  std::vector<std::unique_ptr<Backend>> backends_;
  std::vector<Tensor> x_tensors_, out_tensors_, other_outs_;
  RankGroup group_;
};

double as_double(const uint8_t* bits, DType type) {
  if (type == DType::f32) {
    float value;
    std::memcpy(&value, bits, sizeof value);
    return value;
  }
  uint16_t value;
  std::memcpy(&value, bits, sizeof value);
  return type == DType::f16 ? f16_to_float(value) : bf16_to_float(value);
}

// The sum in fp32 and its one rounding.
double tolerance(DType type, double magnitude) {
  const double rounding = type == DType::f32 ? 0 : type == DType::f16 ? std::ldexp(1, -11) : std::ldexp(1, -8);
  return magnitude * (rounding + std::ldexp(1, -21));
}

std::vector<uint8_t> summed(const char* two_shot, const Size& size, DType type, const Schedule& schedule) {
  const Variable variable("BILLFISH_CUDA_TWO_SHOT", two_shot);
  const DType activation = type == DType::bf16 ? DType::bf16 : DType::f16;
  Ranks ranks(size, type, activation);
  ranks.exchange([&](Backend& backend, int rank) { backend.all_reduce(ranks.group(), rank); }, schedule);
  const std::vector<uint8_t> first = ranks.out_bits(0);
  for (int rank = 1; rank < size.ranks; ++rank) CHECK(ranks.out_bits(rank) == first);
  for (size_t i = 0; i < ranks.x()[0].size(); ++i) {
    double expected = 0, magnitude = 0;
    for (const std::vector<float>& x : ranks.x()) {
      expected += x[i];
      magnitude += std::abs(x[i]);
    }
    const double got = as_double(first.data() + i * byte_size(type), type);
    CHECK_MESSAGE(std::abs(got - expected) <= tolerance(type, magnitude),
                  "element " << i << " is " << got << ", not " << expected);
  }
  return first;
}

// Each rank takes pieces of all, of several widths.
void check_gather() {
  constexpr Size size{3, 4, 24};
  in_every_schedule([&] {
    Ranks ranks(size, DType::f32, DType::f16);
    const std::vector<GatheredPiece> pieces = {{2, 0, 0, 5}, {0, 3, 5, 8}, {1, 16, 13, 8}, {2, 20, 21, 3}};
    const Schedule schedule = Schedule::current();
    ranks.exchange([&](Backend& backend, int rank) { backend.all_gather(ranks.group(), rank); }, schedule, &pieces);
    for (int rank = 0; rank < size.ranks; ++rank) {
      const std::vector<uint8_t> bits = ranks.out_bits(rank);
      for (int64_t row = 0; row < size.rows; ++row) {
        for (const GatheredPiece& piece : pieces) {
          const float* from = ranks.x()[static_cast<size_t>(piece.rank)].data() + row * size.columns + piece.from;
          const uint8_t* to = bits.data() + static_cast<size_t>(row * size.columns + piece.to) * sizeof(float);
          CHECK(std::memcmp(from, to, static_cast<size_t>(piece.count) * sizeof(float)) == 0);
        }
      }
    }
  });
}

}  // namespace

TEST(rank_exchange_sums_in_two_shots_what_it_sums_in_one) {
  // Shares of whole vectors, of single elements, of nothing (more ranks than vectors), and one that is cut short.
  for (const Size& size : {Size{2, 5, 64}, Size{3, 7, 200}, Size{4, 1, 16}, Size{5, 2, 51}, Size{8, 33, 136}}) {
    for (const DType type : {DType::f16, DType::bf16, DType::f32}) {
      const std::vector<uint8_t> one = summed("never", size, type, Schedule::in_order());
      in_every_schedule([&] { CHECK(summed("0", size, type, Schedule::current()) == one); });
    }
  }
}

TEST(rank_exchange_sums_through_nccl) {
  const Variable nccl("BILLFISH_NCCL", BILLFISH_FAKE_NCCL);
  for (const Size& size : {Size{2, 5, 64}, Size{5, 2, 51}}) {
    for (const DType type : {DType::f16, DType::bf16, DType::f32}) {
      in_every_schedule([&] { summed("never", size, type, Schedule::current()); });
    }
  }
}

TEST(rank_exchange_gathers_pieces) {
  check_gather();
  const Variable nccl("BILLFISH_NCCL", BILLFISH_FAKE_NCCL);
  check_gather();
}

TEST(rank_exchange_option_is_checked) {
  for (const char* wrong : {"sometimes", "-1", "3MiB"}) {
    const Variable variable("BILLFISH_CUDA_TWO_SHOT", wrong);
    CHECK_THROWS(make_backend("emulated:0", {}), "INVALID_OPTION");
  }
}
