// The GEMM whose stages a warp of its own fills by bulk copies (bulk_gemm.h), against fp64 on emulated devices.
#include <string>

#include "support/cuda_gemm_cases.h"
#include "tuning/tuned_machine.h"

using namespace gemm_test;
using linear_test::all_codes;
using linear_test::Codes;
using linear_test::may_have_zero_points;
using linear_test::Options;
using linear_test::random_linear;

namespace {

const std::vector<Schedule> all_schedules = {Schedule::in_order(), Schedule::reversed(), Schedule::random(5)};
constexpr int first_bulk_tile = QuantizedTiles::count;

bool has_bulk(const Device& device) { return device.properties().code_architecture >= 90; }

// Every one of the tiles, with `blocks` blocks.
template <class Element>
void check_bulk_tiles(const Options& options, int64_t rows, Random& random, int64_t blocks, bool whole_tiles,
                      DType out_type = DType::f32) {
  Stream stream(Device::at(0));
  const Canonical canonical = random_linear(options, random);
  const Packed packed(stream, canonical);
  const DeviceInput<Element> x(stream, rows, options.in, random);
  const auto expected = linear_test::expect(canonical, x.host.rows);
  const Workspace workspace(stream, rows, 0);
  for (int tile = first_bulk_tile; tile < tile_count(options.bits); ++tile) {
    const Result result(stream, rows, options.out, out_type, 4);
    const GemmPlan plan =
        run_tile<Element>(stream, packed.weight, x.matrix, workspace, result, tile, blocks, whole_tiles);
    CHECK(plan.shape.bulk);
    CHECK(plan.stages >= 2);
    check_close(result.read(stream), expected, out_type,
                describe(options, rows, "bulk tile " + std::to_string(tile - first_bulk_tile)) + " by " +
                    std::to_string(plan.blocks) + (whole_tiles ? " blocks with whole tiles" : " blocks"));
  }
}

// linear() where the plan must be one of these tiles.
template <class Element>
void check_linear(const Options& options, int64_t rows, Random& random, DType out_type, int64_t gap) {
  Stream stream(Device::at(0));
  const Canonical canonical = random_linear(options, random);
  const Packed packed(stream, canonical);
  const DeviceInput<Element> x(stream, rows, options.in, random, gap);
  const Workspace workspace(stream, rows, options.in);
  const Result result(stream, rows, options.out, out_type, 3);
  const LinearCall call = result.call(packed.weight);
  const std::string what = describe(options, rows, "linear()");
  int64_t outputs;
  const GemmPlan plan = plan_gemm(machine_of(stream.device()), problem_of(&call, 1, rows, &outputs));
  CHECK_MESSAGE(plan.shape.bulk, what);
  linear<Element>(stream, &call, 1, x.matrix, workspace.workspace);
  check_close(result.read(stream), linear_test::expect(canonical, x.host.rows), out_type, what);
}

}  // namespace

TEST(cuda_gemm_bulk_equals_fp64_for_all_weights) {
  if (!has_bulk(Device::at(0))) return;
  Random random(21);
  const int64_t rows[] = {1, 2, 5, 8, 9, 15, 16, 17};
  const int64_t blocks[] = {1, 3, 5, 8};
  int turn = 0;
  for (const Codes& codes : all_codes) {
    for (const bool zero_points : {false, true}) {
      if (zero_points && !may_have_zero_points(codes)) continue;
      for (const int64_t group : {16, 32, 64, 128, 256, -1}) {
        if (group == 16 && codes.type != CodeType::e2m1) continue;
        const ScheduleScope scope(all_schedules[turn % 3]);
        Options options{.bits = codes.bits,
                        .codes = codes.type,
                        .out = 130 + 65 * (turn % 3),
                        .in = 384 + 256 * (turn % 4),
                        .group_size = group};
        options.zero_points = zero_points;
        options.bias = turn % 2 == 0;
        options.scale_type = turn % 5 == 4 ? DType::f32 : turn % 2 ? DType::f16 : DType::bf16;
        const bool whole_tiles = turn % 3 == 2;
        check_bulk_tiles<half>(options, rows[turn % 8], random, blocks[turn % 4], whole_tiles,
                               turn % 2 ? DType::f32 : DType::f16);
        check_bulk_tiles<bfloat16>(options, rows[(turn + 3) % 8], random, blocks[(turn + 1) % 4], !whole_tiles,
                                   turn % 2 ? DType::bf16 : DType::f32);
        ++turn;
      }
    }
  }
}

// Inputs and outputs that end within a tile, more stages than shared memory holds, tiles by many blocks and blocks with
// many tiles.
TEST(cuda_gemm_bulk_is_right_at_edges_in_every_schedule) {
  if (!has_bulk(Device::at(0))) return;
  Random random(22);
  for (const Schedule& schedule : all_schedules) {
    const ScheduleScope scope(schedule);
    check_bulk_tiles<half>({.bits = 4, .out = 64, .in = 128, .group_size = 32}, 1, random, 1, false);
    check_bulk_tiles<bfloat16>({.bits = 4, .out = 7, .in = 2176, .group_size = 64}, 3, random, 4, false);
    check_bulk_tiles<half>({.bits = 8, .out = 449, .in = 640, .group_size = 128, .zero_points = true}, 16, random, 2,
                           true);
    check_bulk_tiles<half>({.bits = 4, .out = 72, .in = 8320, .group_size = 128}, 4, random, 3, false);
    check_bulk_tiles<bfloat16>({.bits = 8, .out = 600, .in = 256, .group_size = -1, .bias = true}, 20, random, 3,
                               false);
  }
}

TEST(cuda_gemm_bulk_takes_gathered_inputs) {
  if (!has_bulk(Device::at(0))) return;
  Random random(23);
  for (const Schedule& schedule : all_schedules) {
    const ScheduleScope scope(schedule);
    check_linear<half>({.bits = 4, .out = 512, .in = 1024, .group_size = 128, .order = true}, 2, random, DType::f16, 8);
    check_linear<bfloat16>({.bits = 8, .out = 512, .in = 1024, .group_size = 64, .zero_points = true, .order = true}, 9,
                           random, DType::f32, 3);
    check_linear<half>({.bits = 4, .out = 512, .in = 1024, .group_size = -1}, 1, random, DType::f32, 3);
  }
}

TEST(cuda_gemm_bulk_applies_several_weights_in_one_launch) {
  if (!has_bulk(Device::at(0))) return;
  Random random(24);
  for (const Schedule& schedule : all_schedules) {
    const ScheduleScope scope(schedule);
    Stream stream(Device::at(0));
    const int64_t rows = 7, inputs = 1152;
    const Options options[] = {{.bits = 4, .out = 320, .in = inputs, .group_size = 64, .bias = true},
                               {.bits = 4, .out = 65, .in = inputs, .group_size = 64},
                               {.bits = 4, .out = 7, .in = inputs, .group_size = 64, .bias = true},
                               {.bits = 4, .out = 128, .in = inputs, .group_size = 64}};
    std::vector<Canonical> linears;
    std::vector<Packed> packed;
    std::vector<Result> results;
    std::vector<LinearCall> calls;
    for (const Options& o : options) {
      linears.push_back(random_linear(o, random));
      packed.emplace_back(stream, linears.back());
      results.emplace_back(stream, rows, o.out, DType::f32, 4);
    }
    for (size_t i = 0; i < linears.size(); ++i) calls.push_back(results[i].call(packed[i].weight));
    const DeviceInput<half> x(stream, rows, inputs, random);
    const Workspace workspace(stream, rows, 0);
    for (int tile = first_bulk_tile; tile < tile_count(4); ++tile) {
      int64_t outputs[4];
      const GemmPlan plan = plan_tile(machine_of(stream.device()), problem_of(calls.data(), 4, rows, outputs), tile, 6);
      planned_linear<half>(stream, calls.data(), 4, x.matrix, workspace.workspace, plan);
      for (size_t i = 0; i < linears.size(); ++i) {
        check_close(results[i].read(stream), linear_test::expect(linears[i], x.host.rows), DType::f32,
                    describe(options[i], rows, "weight " + std::to_string(i) + ", tile " + std::to_string(tile)));
      }
    }
  }
}

TEST(cuda_gemm_bulk_results_are_the_same_in_every_schedule) {
  if (!has_bulk(Device::at(0))) return;
  for (int tile = first_bulk_tile; tile < tile_count(4); ++tile) check_tile_in_schedules(tile, 2560, all_schedules);
}

// Inputs that bulk copies do not take get the other kernel.
TEST(cuda_gemm_bulk_is_left_where_inputs_end_unevenly) {
  GemmMachine machine = machine_of(Device::at(0));
  machine.kernels = GemmKernels::bulk_first;
  const int64_t outputs = 512;
  const GemmProblem problem{4, 2, false, 2, 1024 + 64, &outputs, 1};
  CHECK(plan_tile(machine, problem, first_bulk_tile, 4).stages == 0);
  CHECK(!plan_gemm(machine, problem).shape.bulk);
}

#ifndef BILLFISH_GPU_TESTS  // where there is one device, and a trap would end it
TEST(cuda_gemm_bulk_is_left_on_older_devices) {
  Random random(26);
  int ampere = 0;
  while (has_bulk(Device::at(ampere))) ++ampere;
  Stream stream(Device::at(ampere));
  const Options options{.bits = 4, .out = 512, .in = 1024, .group_size = 128};
  const Canonical canonical = random_linear(options, random);
  const Packed packed(stream, canonical);
  const DeviceInput<half> x(stream, 2, 1024, random);
  const Workspace workspace(stream, 2, 0);
  const Result result(stream, 2, 512, DType::f32, 0);
  const LinearCall call = result.call(packed.weight);
  linear<half>(stream, &call, 1, x.matrix, workspace.workspace);
  check_close(result.read(stream), linear_test::expect(canonical, x.host.rows), DType::f32, "on an Ampere");

  int64_t outputs;
  const GemmProblem problem = problem_of(&call, 1, 2, &outputs);
  GemmMachine machine = machine_of(stream.device());
  CHECK(plan_tile(machine, problem, first_bulk_tile, 4).stages == 0);
  machine.kernels = GemmKernels::both;  // which it has not
  planned_linear<half>(stream, &call, 1, x.matrix, workspace.workspace,
                       plan_tile(machine, problem, first_bulk_tile, 4));
  CHECK_THROWS(stream.synchronize(), "INTERNAL");
}
#endif

TEST(cuda_gemm_bulk_is_chosen_for_decoding_on_hopper) {
  GemmMachine h200{132, 36, 2200, 227 * 1024, 228 * 1024};
  h200.kernels = GemmKernels::both;
  for (const int bits : {4, 8}) {
    for (const int64_t rows : {1, 8, 16}) {
      for (const auto& [given, inputs] : {std::pair<int64_t, int64_t>{8192, 8192}, {59136, 8192}, {8192, 29568}}) {
        const int64_t outputs = given;
        const GemmProblem problem{bits, 2, false, rows, inputs, &outputs, 1};
        const GemmPlan plan = plan_gemm(h200, problem);
        const int flight = (plan.stages - 1) * plan.shape.outputs * plan.shape.inputs * bits / 8;
        const std::string what = std::to_string(bits) + " bits, M" + std::to_string(rows) + " N" +
                                 std::to_string(outputs) + " K" + std::to_string(inputs);
        CHECK_MESSAGE(plan.shape.bulk, what);
        CHECK_MESSAGE(flight >= 96 * 1024, what);
        h200.kernels = GemmKernels::staged;
        const GemmPlan staged = plan_gemm(h200, problem);
        CHECK(!staged.shape.bulk);
        CHECK(staged.microseconds > plan.microseconds);
        h200.kernels = GemmKernels::both;
      }
    }
  }
  // Whatever it costs, when it is asked for; where it is there.
  const int64_t outputs = 64;
  h200.kernels = wanted_kernels(GemmKernels::both, "bulk");
  CHECK(plan_gemm(h200, {4, 2, false, 512, 128, &outputs, 1}).shape.bulk);
  CHECK(wanted_kernels(GemmKernels::both, "staged") == GemmKernels::staged);
  CHECK(wanted_kernels(GemmKernels::both, "auto") == GemmKernels::both);
  CHECK(wanted_kernels(GemmKernels::staged, "bulk") == GemmKernels::staged);
  CHECK_THROWS(wanted_kernels(GemmKernels::staged, "fast"), "INVALID_OPTION");
}
