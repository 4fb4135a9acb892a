// The GEMM on emulated devices against results that third-party dequantizers gave: checkpoint files, read, packed and
// multiplied.
#include <cmath>

#include "support/cuda_gemm_cases.h"
#include "support/gemm_fixture.h"

using namespace gemm_test;
using fixtures::Json;

TEST(cuda_gemm_reproduces_the_fixtures) {
  const Json index = fixtures::parse_json(fixtures::read_text(fixtures::directory() / "gemm/index.json"));
  for (const Json& test_case : index.at("cases").items) {
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
