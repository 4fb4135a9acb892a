// Linears by panels on emulated devices: the rows that weights are made into, the products against fp64, and a library
// of the test's own in the place of cuBLAS.
#include <cmath>

#include "gemm/planned_linear.h"
#include "panels/linear.h"
#include "runtime/libraries.h"
#include "support/cuda_gemm_cases.h"

using namespace gemm_test;
using linear_test::all_codes;
using linear_test::Codes;
using linear_test::may_have_zero_points;
using linear_test::Options;
using linear_test::random_linear;

namespace {

// The unit roundoff of the type that weights are rounded to.
template <class Element>
constexpr double unit = type_of<Element> == DType::f16 ? 0x1p-11 : 0x1p-8;

// As check_close(), with the rounding of the weights: unit times the sum of absolute products, and where halves become
// subnormal half of their smallest number times the sum of |x|, which 1e-5 of the former covers here.
template <class Element>
void check_rounded(const linear_test::Output& got, linear_test::Expected expected, DType type,
                   const std::string& what) {
  for (double& magnitude : expected.magnitudes) magnitude *= 1 + unit<Element> / 1e-5;
  check_close(got, expected, type, what);
}

// linear_by_panels() for one weight.
template <class Element>
void check_panels(const Options& options, int64_t rows, Random& random, DType out_type, size_t panel_size) {
  const std::string what = describe(options, rows, type_of<Element> == DType::f16 ? "half" : "bfloat16");
  Stream stream(Device::at(0));
  const Canonical canonical = random_linear(options, random);
  const Packed packed(stream, canonical);
  const DeviceInput<Element> x(stream, rows, options.in, random);
  const Workspace workspace(stream, {rows, 0, panel_size});
  const Result result(stream, rows, options.out, out_type, 4);
  const LinearCall call = result.call(packed.weight);
  linear_by_panels<Element>(stream, &call, 1, x.matrix, workspace.workspace, machine_of(stream.device()));
  check_rounded<Element>(result.read(stream), linear_test::expect(canonical, x.host.rows), out_type, what);
  workspace.check_counters(stream, what);
}

}  // namespace

TEST(cuda_panel_rows_are_the_nearest_numbers) {
  Random random(21);
  int turn = 0;
  const Schedule schedules[] = {Schedule::in_order(), Schedule::reversed(), Schedule::random(5)};
  for (const Codes& codes : all_codes) {
    for (const bool zero_points : {false, true}) {
      if (zero_points && !may_have_zero_points(codes)) continue;
      for (const int64_t group : {16, 32, 128, 96, -1}) {
        if (group == 16 && codes.type != CodeType::e2m1) continue;
        const ScheduleScope scope(schedules[turn % 3]);
        Options options{.bits = codes.bits,
                        .codes = codes.type,
                        .out = 192 + 7 * (turn % 3),
                        .in = 256 + 31 * (turn % 4),
                        .group_size = group};
        options.zero_points = zero_points;
        options.scale_type = turn % 3 == 0 ? DType::f16 : turn % 3 == 1 ? DType::bf16 : DType::f32;
        Stream stream(Device::at(0));
        const Canonical canonical = random_linear(options, random);
        const Packed packed(stream, canonical);
        const int64_t stride = round_up(options.in, 64), first = turn % 2 * 64, count = options.out - first;
        const DeviceMemory halves(stream.device(), count * stride * 2), bfloats(stream.device(), count * stride * 2);
        dequantize_rows<half>(stream, packed.weight, first, count, halves.as<half>(), stride);
        dequantize_rows<bfloat16>(stream, packed.weight, first, count, bfloats.as<bfloat16>(), stride);
        const auto half_bits = download<uint16_t>(stream, halves.data(), count * stride);
        const auto bfloat_bits = download<uint16_t>(stream, bfloats.data(), count * stride);
        for (int64_t i = 0; i < count * stride; ++i) {
          const int64_t n = first + i / stride, k = i % stride;
          const auto exact = k < options.in ? static_cast<float>(canonical.weight(n, k)) : 0.0f;
          const std::string what = describe(options, n, "row") + " input " + std::to_string(k);
          CHECK_MESSAGE(f16_to_float(half_bits[i]) == f16_to_float(float_to_f16(exact)), what);
          CHECK_MESSAGE(bf16_to_float(bfloat_bits[i]) == bf16_to_float(float_to_bf16(exact)), what);
        }
        ++turn;
      }
    }
  }
}

TEST(cuda_panel_products_equal_fp64) {
  Random random(22);
  int turn = 0;
  for (const Codes& codes : all_codes) {
    for (const bool zero_points : {false, true}) {
      if (zero_points && !may_have_zero_points(codes)) continue;
      for (const int64_t group : {64, -1}) {
        // Panels of 128 outputs, of 64, and one for all.
        const size_t panel = turn % 3 == 0 ? 128 * 320 * 2 : turn % 3 == 1 ? 100 * 320 * 2 : max_panel_bytes >> 8;
        Options options{.bits = codes.bits, .codes = codes.type, .out = 330, .in = 320, .group_size = group};
        options.zero_points = zero_points;
        options.bias = turn % 2 == 0;
        check_panels<half>(options, 9 + 8 * turn, random, turn % 2 ? DType::f32 : DType::f16, panel);
        check_panels<bfloat16>(options, 5 + 4 * turn, random, turn % 2 ? DType::bf16 : DType::f32, panel);
        ++turn;
      }
    }
  }
}

namespace {

// Products as a library would make them, on the host: its stream waits for each.
class HostLibrary final : public MatrixLibrary {
 public:
  explicit HostLibrary(Stream& stream) : stream_(stream) {}
  int products = 0;

  void multiply(const MatrixProduct& product) override {
    ++products;
    const auto x = read(product.x, product.rows, product.x_stride, product.in, product.type);
    const auto w = read(product.w, product.out, product.w_stride, product.in, product.type);
    auto y = product.accumulate ? read(product.y, product.rows, product.y_stride, product.out, product.y_type)
                                : std::vector<float>(static_cast<size_t>(product.rows * product.out));
    for (int64_t r = 0; r < product.rows; ++r) {
      std::vector<uint8_t> row;
      for (int64_t n = 0; n < product.out; ++n) {
        double sum = y[r * product.out + n];
        for (int64_t k = 0; k < product.in; ++k) {
          sum += static_cast<double>(x[r * product.in + k]) * w[n * product.in + k];
        }
        const auto value = static_cast<float>(sum);
        const uint32_t bits = product.y_type == DType::f32   ? float_to_bits(value)
                              : product.y_type == DType::f16 ? float_to_f16(value)
                                                             : float_to_bf16(value);
        for (size_t byte = 0; byte < byte_size(product.y_type); ++byte) row.push_back(bits >> (8 * byte) & 0xff);
      }
      stream_.copy_to_device(static_cast<uint8_t*>(product.y) + r * product.y_stride * byte_size(product.y_type),
                             row.data(), row.size());
    }
    stream_.synchronize();
  }

 private:
  // [rows][columns]; what is between the rows is not touched.
  std::vector<float> read(const void* from, int64_t rows, int64_t stride, int64_t columns, DType type) {
    std::vector<float> values;
    for (int64_t r = 0; r < rows; ++r) {
      const auto* row = static_cast<const uint8_t*>(from) + r * stride * static_cast<int64_t>(byte_size(type));
      if (type == DType::f32) {
        const auto floats = download<float>(stream_, row, columns);
        values.insert(values.end(), floats.begin(), floats.end());
        continue;
      }
      for (const uint16_t bits : download<uint16_t>(stream_, row, columns)) {
        values.push_back(type == DType::f16 ? f16_to_float(bits) : bf16_to_float(bits));
      }
    }
    return values;
  }
  Stream& stream_;
};

template <class Element>
void check_library(const Options& options, int64_t rows, Random& random, DType out_type) {
  const std::string what = describe(options, rows, "by a library");
  Stream stream(Device::at(0));
  const Canonical canonical = random_linear(options, random);
  const Packed packed(stream, canonical);
  const DeviceInput<Element> x(stream, rows, options.in, random);
  const size_t panel = panel_bytes(options.out, options.in, rows);
  Workspace workspace(stream, {rows, options.in, panel});
  HostLibrary library(stream);
  GemmMachine machine = machine_of(stream.device());
  machine.crossover = rows;
  workspace.workspace.machine = &machine;
  workspace.workspace.library = &library;
  const Result result(stream, rows, options.out, out_type, 3);
  const LinearCall call = result.call(packed.weight);
  linear<Element>(stream, &call, 1, x.matrix, workspace.workspace);
  check_rounded<Element>(result.read(stream), linear_test::expect(canonical, x.host.rows), out_type, what);
  CHECK_MESSAGE(library.products == 1, what << ": " << library.products << " products");

  machine.crossover = rows + 1;
  linear<Element>(stream, &call, 1, x.matrix, workspace.workspace);
  check_close(result.read(stream), linear_test::expect(canonical, x.host.rows), out_type, what);
  CHECK(library.products == 1);
}

}  // namespace

// linear() from the crossover on, and below it: bias, act-order, gaps between rows.
TEST(cuda_panel_products_are_the_librarys_where_there_is_one) {
  Random random(23);
  check_library<half>({.bits = 4, .out = 70, .in = 96, .group_size = 32, .bias = true}, 256, random, DType::f16);
  check_library<bfloat16>({.bits = 8, .out = 64, .in = 128, .group_size = -1, .zero_points = true, .bias = true}, 257,
                          random, DType::f32);
  check_library<half>({.bits = 4, .out = 65, .in = 64, .group_size = 32, .order = true}, 256, random, DType::f32);
  check_library<bfloat16>({.bits = 4, .out = 64, .in = 100, .group_size = -1}, 256, random, DType::bf16);
}

TEST(cuda_panel_cuts_weights_evenly) {
  const auto cut = [](int64_t out, int64_t in, size_t bytes = max_panel_bytes) { return panels_of(out, in, bytes); };
  for (const auto& [out, in] : {std::pair<int64_t, int64_t>{8192, 8192},
                                {59392, 8192},
                                {8192, 29696},
                                {37888, 3584},
                                {3584, 18944},
                                {7, 100},
                                {152064, 8192},
                                {130, 1 << 20}}) {
    const PanelShape shape = cut(out, in);
    CHECK(shape.bytes() <= max_panel_bytes);
    CHECK(shape.rows % 64 == 0);
    CHECK(shape.stride >= in);
    CHECK(shape.count * shape.rows >= out);
    CHECK((shape.count - 1) * shape.rows < out);
    if (shape.count > 1 && shape.rows >= 512) CHECK(out - (shape.count - 1) * shape.rows >= shape.rows / 2);
    CHECK(panel_bytes(out, in, min_panel_rows) == shape.bytes());
    CHECK(panel_bytes(out, in, min_panel_rows - 1) == 0);
  }
  CHECK(cut(8192, 8192).count == 1);
  CHECK(cut(8192, 29696).rows == 2048);
  CHECK(cut(64, 64, 64 * 64 * 2).count == 1);
  CHECK(cut(64, 64, 64 * 64 * 2 - 1).count == 0);
}
