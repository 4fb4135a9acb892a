// Plans of the GEMM: what they promise, what is chosen, and that every tile computes the same.
#include <string>

#include "support/cuda_gemm_cases.h"

using namespace gemm_test;
using linear_test::Options;
using linear_test::random_linear;

namespace {

constexpr GemmMachine a100{108, 18, 1450, 163 * 1024, 164 * 1024}, rtx4090{128, 8, 600, 99 * 1024, 100 * 1024},
    h200{132, 36, 2200, 227 * 1024, 228 * 1024};
constexpr GemmMachine machines[] = {a100, rtx4090, h200};

GemmPlan plan_of(const GemmMachine& machine, int bits, int64_t rows, int64_t outputs, int64_t inputs) {
  return plan_gemm(machine, {bits, 2, false, rows, inputs, &outputs, 1});
}

// The longest run of a block, against what an even share of all multiprocessors would be.
double imbalance(const GemmMachine& machine, const GemmPlan& plan, int64_t inputs) {
  const int64_t runs = (plan.blocks + machine.multiprocessors - 1) / machine.multiprocessors;
  const int64_t k_tiles = plan.whole_tiles ? (inputs + plan.shape.inputs - 1) / plan.shape.inputs : 1;
  const double busiest = static_cast<double>((plan.units / k_tiles + plan.blocks - 1) / plan.blocks * k_tiles * runs);
  return busiest * machine.multiprocessors / static_cast<double>(plan.units);
}

}  // namespace

TEST(cuda_gemm_plans_fit_the_machine) {
  for (const GemmMachine& machine : machines) {
    for (const int bits : {4, 8, 16}) {
      for (const int64_t rows : {1, 2, 8, 9, 16, 17, 64, 65, 256, 4096}) {
        for (const auto& [outputs, inputs] : {std::pair<int64_t, int64_t>{64, 128},
                                              {576, 2048},
                                              {8192, 8192},
                                              {10240, 8192},
                                              {59136, 8192},
                                              {8192, 29568},
                                              {152064, 8192},
                                              {7, 100}}) {
          const std::string what = std::to_string(bits) + " bits, M" + std::to_string(rows) + " N" +
                                   std::to_string(outputs) + " K" + std::to_string(inputs);
          const GemmPlan plan = plan_of(machine, bits, rows, outputs, inputs);
          CHECK_MESSAGE(plan.stages >= 2, what);
          CHECK_MESSAGE(plan.stages <= max_stages, what);
          CHECK_MESSAGE(plan.shared_bytes <= machine.shared_bytes_per_block, what);
          const auto room = static_cast<uint32_t>(machine.multiprocessors * plan.shape.resident);
          CHECK_MESSAGE(plan.blocks >= 1, what);
          CHECK_MESSAGE(plan.blocks <= room, what);
          CHECK_MESSAGE(plan.blocks <= plan.units, what);
          const auto resident = static_cast<uint32_t>(plan.shape.resident);
          CHECK_MESSAGE((plan.shared_bytes + 1024) * resident <= machine.shared_bytes_per_multiprocessor, what);
          const size_t partials = size_t{plan.blocks} * 2 * sizeof(float) * plan.shape.tokens * plan.shape.outputs;
          if (!plan.whole_tiles) CHECK_MESSAGE(partials <= partial_bytes, what);
        }
      }
    }
  }
}

TEST(cuda_gemm_plans_suit_the_shape) {
  for (const GemmMachine& machine : {a100, h200}) {
    // No tile is much wider than the rows ask for, and decoding keeps many weights in flight.
    for (const int64_t rows : {1, 8, 16, 32, 64}) {
      const GemmPlan plan = plan_of(machine, 4, rows, 8192, 8192);
      CHECK_MESSAGE(plan.shape.tokens <= 2 * std::max<int64_t>(8, rows), "M" << rows << ": " << plan.shape.tokens);
      if (rows > 8) continue;
      const int flight = (plan.stages - 1) * plan.shape.outputs * plan.shape.inputs / 2 * plan.shape.resident;
      CHECK_MESSAGE(flight >= 48 * 1024, "M" << rows << ": " << flight << " bytes in flight");
    }
  }
  // On an H200 every multiprocessor is needed: the large shapes of Qwen2-72B and 7B are shared out evenly.
  for (const auto& [outputs, inputs] : {std::pair<int64_t, int64_t>{10240, 8192},
                                        {8192, 8192},
                                        {59392, 8192},
                                        {8192, 29696},
                                        {37888, 3584},
                                        {3584, 18944}}) {
    const GemmPlan plan = plan_of(h200, 4, 1, outputs, inputs);
    CHECK_MESSAGE(imbalance(h200, plan, inputs) < 1.1,
                  "N" << outputs << " K" << inputs << ": " << imbalance(h200, plan, inputs) << " with tile "
                      << plan.tile << " and " << plan.blocks << " blocks for " << plan.units << " units");
  }
  // 8192 outputs are 128 strips for 132 multiprocessors: nobody shares a tile, and nothing is added afterward.
  const GemmPlan unshared = plan_of(h200, 4, 1, 8192, 8192);
  CHECK(unshared.shape.outputs == 64);
  CHECK(unshared.blocks == 128);
  CHECK(unshared.whole_tiles);
}

namespace {

// Every tile, with as many blocks as are given.
template <class Element>
void check_tiles(Stream& stream, const LinearWeight& weight, const linear_test::Expected& expected,
                 const Matrix<const Element>& x, int64_t blocks, bool whole_tiles, const std::string& what) {
  const GemmKernels kernels = machine_of(stream.device()).kernels;
  const Workspace workspace(stream, x.rows, 0);
  for (int tile = 0; tile < tile_count(weight.bits); ++tile) {
    const Result result(stream, x.rows, weight.out, DType::f32, 0);
    const GemmPlan plan = run_tile<Element>(stream, weight, x, workspace, result, tile, blocks, whole_tiles);
    if (plan.shape.bulk && (kernels == GemmKernels::staged || weight.in % padded_inputs != 0)) continue;
    CHECK(plan.stages >= 2);
    check_close(result.read(stream), expected, DType::f32,
                what + ", tile " + std::to_string(tile) + " of " + std::to_string(plan.blocks) +
                    (whole_tiles ? " blocks with whole tiles" : " blocks"));
  }
}

template <class Element>
void check_quantized_tiles(const Options& options, int64_t rows, Random& random, int64_t blocks, bool whole_tiles) {
  Stream stream(Device::at(0));
  const Canonical canonical = random_linear(options, random);
  const Packed packed(stream, canonical);
  const DeviceInput<Element> x(stream, rows, options.in, random);
  check_tiles<Element>(stream, packed.weight, linear_test::expect(canonical, x.host.rows), x.matrix, blocks,
                       whole_tiles, describe(options, rows, "a tile"));
}

template <class Element>
void check_matrix_tiles(int64_t out, int64_t in, int64_t rows, Random& random, int64_t blocks, bool whole_tiles) {
  Stream stream(Device::at(0));
  std::vector<float> values;
  std::vector<Element> elements;
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < out * in; ++i) {
    elements.push_back(from_float<Element>(normal(random)));
    values.push_back(to_float(elements.back()));
  }
  const DeviceMemory block(stream.device(), matrix_bytes(out, in, false)), slab = upload(stream, elements);
  const LinearWeight weight = lay_out_matrix(stream, out, in, type_of<Element>, {}, block.data());
  fill_matrix(stream, weight, 0, out, type_of<Element>, slab.data());
  const DeviceInput<Element> x(stream, rows, in, random);
  const auto expected = linear_test::expect(x.host.rows, out, {}, nullptr,
                                            [&](int64_t n, int64_t k) { return double{values[n * in + k]}; });
  check_tiles<Element>(stream, weight, expected, x.matrix, blocks, whole_tiles, "a matrix");
}

}  // namespace

TEST(cuda_gemm_is_right_with_every_tile_and_any_number_of_blocks) {
  Random random(11);
  const Schedule schedules[] = {Schedule::in_order(), Schedule::reversed(), Schedule::random(3)};
  for (const Schedule& schedule : schedules) {
    const ScheduleScope scope(schedule);
    check_quantized_tiles<half>({.bits = 4, .out = 200, .in = 640, .group_size = 128}, 9, random, 7, false);
    check_quantized_tiles<bfloat16>({.bits = 4, .out = 130, .in = 384, .group_size = 32, .zero_points = true}, 33,
                                    random, 3, true);
    check_quantized_tiles<half>({.bits = 8, .out = 64, .in = 1152, .group_size = 64, .zero_points = true}, 4, random,
                                11, false);
    check_quantized_tiles<bfloat16>({.bits = 8, .out = 300, .in = 256, .group_size = -1, .bias = true}, 20, random, 1,
                                    false);
    for (const int64_t rows : {3, 40}) {
      const Options floats{.bits = 8, .codes = CodeType::e4m3, .out = 130, .in = 640, .group_size = 128};
      check_quantized_tiles<half>(floats, rows, random, 5, false);
      check_quantized_tiles<bfloat16>(floats, rows, random, 2, true);
    }
    check_matrix_tiles<half>(300, 320, 10, random, 5, false);
    check_matrix_tiles<bfloat16>(270, 136, 20, random, 2, true);
  }
}

TEST(cuda_gemm_results_do_not_depend_on_who_comes_last) {
  check_tile_in_schedules(1, 1280, {Schedule::in_order(), Schedule::reversed(), Schedule::random(7)});
}
