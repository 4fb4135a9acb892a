// The dequant GEMM of cuda/gemm on emulated devices, against fp64.
#include <cmath>

#include "support/cuda_gemm_cases.h"
#include "support/gemm_fixture.h"

using namespace gemm_test;
using linear_test::all_codes;
using linear_test::Codes;
using linear_test::may_have_zero_points;
using linear_test::Options;
using linear_test::random_linear;

namespace {

const Schedule all_schedules[] = {Schedule::in_order(), Schedule::reversed(), Schedule::random(1)};

template <class Element>
void check_quantized(const Options& options, int64_t rows, Random& random, DType out_type, bool misaligned = false) {
  const std::string what = describe(options, rows, type_of<Element> == DType::f16 ? "half" : "bfloat16");
  Stream stream(Device::at(0));
  const Canonical canonical = random_linear(options, random);
  const Packed packed(stream, canonical);
  const DeviceInput<Element> x(stream, rows, options.in, random, misaligned ? 3 : 8, misaligned ? 5 : 0);
  const Workspace workspace(stream, rows, options.in);
  const Result result(stream, rows, options.out, out_type, rows % 2 == 0 ? 4 : 3);
  const LinearCall call = result.call(packed.weight);
  linear<Element>(stream, &call, 1, x.matrix, workspace.workspace);
  check_close(result.read(stream), linear_test::expect(canonical, x.host.rows), out_type, what);
  workspace.check_counters(stream, what);
}

}  // namespace

TEST(cuda_gemm_packs_what_it_was_given) {
  Random random(1);
  for (const int bits : {4, 8}) {
    for (const auto& [out, in, group] : {std::array<int64_t, 3>{64, 128, 32}, {200, 288, 96}, {65, 130, -1}}) {
      Options options{.bits = bits, .out = out, .in = in, .group_size = group, .zero_points = true, .bias = true};
      options.scale_type = in == 288 ? DType::bf16 : in == 130 ? DType::f32 : DType::f16;
      const Canonical canonical = random_linear(options, random);
      Stream stream(Device::at(0));
      const Packed packed(stream, canonical);
      const PackedLayout layout(canonical.shape);
      CHECK(layout.total == packed.block.bytes());
      const auto codes = download<uint32_t>(stream, packed.weight.codes, (layout.scales - layout.codes) / 4);
      const auto zeros = download<uint8_t>(stream, packed.weight.zeros, layout.strips * layout.groups * 64);
      const size_t scale_bytes = byte_size(options.scale_type);
      const auto scales =
          download<uint8_t>(stream, packed.weight.scales, layout.strips * layout.groups * 64 * scale_bytes);
      const auto bias = download<float>(stream, packed.weight.bias, out);
      const CanonicalRows rows = canonical.rows(0, out);
      for (int64_t n = 0; n < layout.strips * 64; ++n) {
        const int output = static_cast<int>(n % 64);
        for (int64_t k = 0; k < layout.blocks * 16; ++k) {
          const CodePlace place = code_place(bits, output, k);
          const uint32_t word = codes[n / 64 * layout.blocks * codes_block_bytes(bits) / 4 + place.word];
          const int expected = n < out && k < in ? canonical.codes[n * in + k] : 0;
          CHECK(static_cast<int>(word >> place.shift & ((1u << bits) - 1)) == expected);
        }
        for (int64_t g = 0; g < layout.groups; ++g) {
          const int64_t entry = (n / 64 * layout.groups + g) * 64 + entry_index(output);
          const int64_t group = g * packed_group_size(canonical.shape.group_size, in) / canonical.shape.group_size;
          const int64_t given = n * canonical.shape.groups() + group;
          CHECK(zeros[entry] == (n < out ? canonical.zeros[given] : 0));
          for (size_t byte = 0; byte < scale_bytes; ++byte) {
            const int expected = n < out ? rows.scales[given * scale_bytes + byte] : 0;
            CHECK(scales[entry * scale_bytes + byte] == expected);
          }
        }
        if (n < out) CHECK(bias[n] == canonical.bias[n]);
      }
    }
  }
}

TEST(cuda_gemm_equals_fp64_for_all_weights) {
  Random random(2);
  int64_t rows[] = {1, 2, 7, 8, 9, 16, 17, 33};
  int turn = 0;
  for (const Codes& codes : all_codes) {
    for (const bool zero_points : {false, true}) {
      if (zero_points && !may_have_zero_points(codes)) continue;
      for (const int64_t group : {16, 32, 64, 128, 96, -1}) {
        if (group == 16 && codes.type != CodeType::e2m1) continue;
        for (const DType scale_type : {DType::f16, DType::bf16}) {
          Options options{.bits = codes.bits,
                          .codes = codes.type,
                          .out = 128 + 40 * (turn % 3),
                          .in = 256 + 32 * (turn % 4),
                          .group_size = group};
          options.zero_points = zero_points;
          options.bias = turn % 2 == 0;
          options.order = turn % 3 == 2;
          options.scale_type = turn % 7 == 6 ? DType::f32 : scale_type;
          check_quantized<half>(options, rows[turn % 8], random, turn % 2 ? DType::f32 : DType::f16);
          check_quantized<bfloat16>(options, rows[(turn + 3) % 8], random, turn % 2 ? DType::bf16 : DType::f32);
          ++turn;
        }
      }
    }
  }
}

// Integers whose sums and products every type here holds: the results must be exact, whatever adds them in which order.
TEST(cuda_gemm_is_exact_on_small_integers) {
  Random random(3);
  for (const Codes& codes : all_codes) {
    for (const int64_t rows : {1, 8, 16, 17, 65, 130}) {
      Options options{.bits = codes.bits, .codes = codes.type, .out = 192, .in = 384, .group_size = 64, .bias = true};
      options.zero_points = rows % 2 == 0 && may_have_zero_points(codes);
      options.powers_of_two = true;
      Stream stream(Device::at(0));
      const Canonical canonical = random_linear(options, random);
      const Packed packed(stream, canonical);
      const DeviceInput<bfloat16> x(stream, rows, options.in, random, 8, 0, true);
      const Workspace workspace(stream, rows, 0);
      const Result result(stream, rows, options.out, DType::f32, 0);
      const LinearCall call = result.call(packed.weight);
      linear<bfloat16>(stream, &call, 1, x.matrix, workspace.workspace);
      CHECK_MESSAGE(linear_test::equal_values(result.read(stream), linear_test::expect(canonical, x.host.rows)),
                    describe(options, rows, "bfloat16"));
    }
  }
}

// Rows and outputs around the edges of tiles, in every schedule of blocks, warps and copies.
TEST(cuda_gemm_is_right_at_tile_edges_in_every_schedule) {
  Random random(4);
  int turn = 0;
  for (const Schedule& schedule : all_schedules) {
    const ScheduleScope scope(schedule);
    for (const int64_t rows : {1, 8, 9, 16, 31, 32, 33, 64, 65, 129}) {
      const Codes& codes = all_codes[turn % 4];
      Options options{
          .bits = codes.bits, .codes = codes.type, .out = 63 + 64 * (turn % 4), .in = 128 + 64 * (turn % 5)};
      options.group_size = codes.type == CodeType::e2m1 ? 16 : turn % 4 ? 64 : 32;
      options.zero_points = turn % 5 < 2 && may_have_zero_points(codes);
      check_quantized<half>(options, rows, random, turn % 2 ? DType::f32 : DType::f16);
      ++turn;
    }
  }
}

// Inputs that cannot be read 16 bytes at a time go through the workspace.
TEST(cuda_gemm_takes_any_alignment_and_number_of_inputs) {
  Random random(5);
  for (const int64_t inputs : {100, 129, 203, 256}) {
    Options options{.bits = 4, .out = 70, .in = inputs, .group_size = -1, .bias = true};
    check_quantized<half>(options, 5, random, DType::f16, true);
    check_quantized<bfloat16>(options, 18, random, DType::f32, false);
  }
  const Options order{.bits = 8, .out = 70, .in = 288, .group_size = 32, .order = true};
  check_quantized<half>(order, 66, random, DType::f32, true);
}

// Long inputs and few outputs: blocks share tiles, some of them two; whoever comes last adds their parts.
TEST(cuda_gemm_shares_tiles_among_blocks) {
  Random random(6);
  for (const Schedule& schedule : all_schedules) {
    const ScheduleScope scope(schedule);
    for (const int64_t rows : {1, 16, 40, 100}) {
      check_quantized<half>({.bits = 4, .out = 330, .in = 1664, .group_size = 128, .bias = true}, rows, random,
                            DType::f32);
    }
  }
}

// q, k and v: weights of one kind share a launch, others on the same input get their own.
TEST(cuda_gemm_applies_several_weights_to_one_input) {
  Random random(7);
  for (const int64_t rows : {1, 20}) {
    Stream stream(Device::at(0));
    std::vector<Canonical> linears;
    std::vector<Packed> packed;
    std::vector<Result> results;
    std::vector<LinearCall> calls;
    const Options options[] = {
        {.bits = 4, .out = 256, .in = 320, .group_size = 64, .bias = true},
        {.bits = 4, .out = 65, .in = 320, .group_size = 64},
        {.bits = 8, .out = 64, .in = 320, .group_size = 64},
        {.bits = 4, .out = 7, .in = 320, .group_size = 64, .bias = true},
        {.bits = 4, .out = 130, .in = 320, .group_size = 64},
        {.bits = 4, .out = 128, .in = 320, .group_size = 64, .order = true},
        {.bits = 4, .out = 128, .in = 320, .group_size = 64},
    };
    for (const Options& o : options) {
      linears.push_back(random_linear(o, random));
      packed.emplace_back(stream, linears.back());
      results.emplace_back(stream, rows, o.out, DType::f32, 4);
    }
    for (size_t i = 0; i < linears.size(); ++i) calls.push_back(results[i].call(packed[i].weight));
    const DeviceInput<half> x(stream, rows, 320, random);
    const Workspace workspace(stream, rows, 320);
    linear<half>(stream, calls.data(), static_cast<int>(calls.size()), x.matrix, workspace.workspace);
    for (size_t i = 0; i < linears.size(); ++i) {
      check_close(results[i].read(stream), linear_test::expect(linears[i], x.host.rows), DType::f32,
                  describe(options[i], rows, "half, weight " + std::to_string(i)));
    }
  }
}

namespace {

template <class Element, class From>
void check_matrix(int64_t out, int64_t in, int64_t rows, bool has_bias, Random& random, DType from_type,
                  DType out_type) {
  Stream stream(Device::at(0));
  std::vector<float> values(static_cast<size_t>(out * in)), bias;
  std::vector<From> stored;
  std::normal_distribution<float> normal;
  for (float& value : values) {
    stored.push_back(from_float<From>(normal(random)));
    value = rounded<Element>(to_float(stored.back()));
  }
  for (int64_t n = 0; n < out && has_bias; ++n) bias.push_back(normal(random));
  const DeviceMemory block(stream.device(), matrix_bytes(out, in, has_bias));
  const LinearWeight weight = lay_out_matrix(stream, out, in, type_of<Element>, bias, block.data());
  for (int64_t first = 0; first < out; first += 128) {
    const int64_t count = std::min<int64_t>(128, out - first);
    const std::vector<From> rows_of(stored.begin() + first * in, stored.begin() + (first + count) * in);
    const DeviceMemory slab = upload(stream, rows_of);
    fill_matrix(stream, weight, first, count, from_type, slab.data());
    stream.synchronize();
  }
  const DeviceInput<Element> x(stream, rows, in, random);
  const Workspace workspace(stream, rows, in);
  const Result result(stream, rows, out, out_type, 3);
  const LinearCall call = result.call(weight);
  linear<Element>(stream, &call, 1, x.matrix, workspace.workspace);
  const auto expected = linear_test::expect(x.host.rows, out, {}, has_bias ? bias.data() : nullptr,
                                            [&](int64_t n, int64_t k) { return double{values[n * in + k]}; });
  check_close(result.read(stream), expected, out_type,
              "matrix M" + std::to_string(rows) + " K" + std::to_string(in) + " N" + std::to_string(out));
}

}  // namespace

TEST(cuda_gemm_multiplies_16_bit_matrices) {
  Random random(8);
  for (const Schedule& schedule : all_schedules) {
    const ScheduleScope scope(schedule);
    check_matrix<half, float>(128, 192, 1, false, random, DType::f32, DType::f32);
    check_matrix<half, half>(150, 200, 9, true, random, DType::f16, DType::f16);
    check_matrix<half, bfloat16>(65, 72, 33, false, random, DType::bf16, DType::f32);
    check_matrix<bfloat16, float>(7, 1000, 2, true, random, DType::f32, DType::f32);
    check_matrix<bfloat16, half>(300, 40, 65, false, random, DType::f16, DType::bf16);
    check_matrix<bfloat16, bfloat16>(130, 130, 17, true, random, DType::bf16, DType::f32);
  }
}

TEST(cuda_gemm_refuses_what_it_cannot_do) {
  Stream stream(Device::at(0));
  CanonicalShape shape;
  shape.name = "model.layers.0.mlp.down_proj";
  shape.out = 64, shape.in = 160, shape.group_size = 80;
  CHECK_THROWS(quantized_bytes(shape), "UNSUPPORTED_MODEL");
  shape.group_size = 32;
  shape.bits = 2;
  CHECK_THROWS(quantized_bytes(shape), "UNSUPPORTED_MODEL");
  shape.bits = 4;
  const DeviceMemory block(stream.device(), quantized_bytes(shape));
  const LinearWeight weight = lay_out_quantized(stream, shape, block.data());
  CHECK_THROWS(fill_quantized(stream, weight, {32, 32}), "INTERNAL");
  CHECK_THROWS(fill_quantized(stream, weight, {0, 128}), "INTERNAL");
  CHECK_THROWS(fill_matrix(stream, weight, 0, 63, DType::f16, nullptr), "INTERNAL");

  const Workspace workspace(stream, 4, 0);
  const LinearCall call{&weight, nullptr, 64, DType::f16};
  CHECK_THROWS(linear<half>(stream, &call, 1, {nullptr, 4, 128, 160}, workspace.workspace), "INTERNAL");
  CHECK_THROWS(linear<bfloat16>(stream, &call, 1, {nullptr, 4, 160, 160}, workspace.workspace), "INTERNAL");
  CHECK_THROWS(linear<half>(stream, &call, 1, {nullptr, 4, 160, 163}, workspace.workspace), "INTERNAL");
  CHECK_THROWS(linear<half>(stream, &call, 1, {nullptr, 4, 160, 160}, {}), "INTERNAL");
}

// Against results that third-party dequantizers gave: checkpoint files, read, packed and multiplied.
TEST(cuda_gemm_reproduces_the_fixtures) {
  const fixtures::Json index = fixtures::parse_json(fixtures::read_text(fixtures::directory() / "gemm/index.json"));
  for (const fixtures::Json& test_case : index.at("cases").items) {
    const std::string& name = test_case.at("name").text;
    const fixtures::SafetensorsFiles file = fixtures::file_of_case(test_case);
    const auto source = open_quantized(spec_of(file, "", scheme_of_case(test_case)), file.files());
    const CanonicalShape& shape = source->shape();

    Stream stream(Device::at(0));
    const Packed packed(stream, shape, [&](int64_t first, int64_t count) {
      CanonicalRows rows;
      source->read(first, count, rows);
      return rows;
    });
    const auto x = file.read<uint16_t>("x");
    const auto y = file.read<double>("y");
    const auto rows = static_cast<int64_t>(x.size()) / shape.in;
    const DeviceMemory x_memory = upload(stream, x);
    const Matrix<const half> matrix{x_memory.as<half>(), rows, shape.in, shape.in};
    const Workspace workspace(stream, rows, shape.in);
    const Result result(stream, rows, shape.out, DType::f32, 0);
    const LinearCall call = result.call(packed.weight);
    linear<half>(stream, &call, 1, matrix, workspace.workspace);
    const linear_test::Output got = result.read(stream);

    const double tolerance = 1e-5 * test_case.at("max_sum_abs_products").number;
    double worst = 0;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t n = 0; n < shape.out; ++n) {
        worst = std::max(worst, std::abs(got.values[r * got.stride + n] - y[r * shape.out + n]));
      }
    }
    CHECK_MESSAGE(worst <= tolerance, name << ": off by " << worst << ", allowed are " << tolerance);
  }
}
