// The dequant GEMM over the shapes that Marlin, vLLM and Machete test theirs with, and over those of real models.
//
// Reference sums are fp64. Of large shapes not every output can have one: there a sample of outputs does, around the
// edges of strips and at random, and a checksum covers the others: the sum of a row's outputs must be x times the sum
// of the weights' rows.
//
// The emulator runs what takes it no more than a moment. BILLFISH_SWEEP=64 lets a shape take 64 million
// multiplications, BILLFISH_SWEEP=all any number of them.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <set>

#include "support/cuda_gemm_cases.h"

using namespace gemm_test;
using linear_test::Options;
using linear_test::random_linear;

namespace {

struct Shape {
  int64_t out, in;
  std::vector<int64_t> rows;
};

// Of Marlin's own test: rows around every tile, short and uneven k, few and many outputs.
const Shape marlin_shapes[] = {
    {512, 1024, {1, 2, 3, 4, 8, 12, 16, 24, 32, 48, 64, 118, 128, 152, 768, 1024}},
    {512, 768, {16}},
    {512, 832, {16}},
    {512, 896, {16}},
    {512, 64, {16}},
    {512, 128, {16}},
    {512, 192, {16}},
    {256, 512, {16}},
    {256, 1024, {16}},
    {32768, 1024, {16}},
};

// Of vLLM's tests of Marlin (chunks of outputs and inputs times odd factors), of its padded tiles, and of Machete.
const Shape serving_shapes[] = {
    {64, 128, {1}},     {256, 128, {1}},     {256, 1024, {1}},     {1024, 1024, {1}},
    {2368, 1664, {26}}, {9472, 1664, {26}},  {832, 1408, {257}},   {3328, 1408, {257}},
    {2048, 1024, {32}}, {200, 288, {1, 16}}, {256, 208, {1, 16}},  {200, 208, {1, 16}},
    {4640, 512, {16}},  {128, 64, {1}},      {4608, 4096, {16}},   {128, 128, {1}},
    {8192, 28672, {1}}, {8192, 4096, {13}},  {4096, 8192, {26}},   {4096, 4096, {64}},
    {4096, 128, {257}}, {4224, 4160, {257}}, {8192, 4096, {1024}}, {28672, 8192, {1, 8, 16}},
};

// (K, N) of fused layers as checkpoints have them, padded ones included, and their shares at 2, 4 and 8 ranks.
const Shape model_shapes[] = {
    {4608, 3584, {1, 17}},  {37888, 3584, {1}},     {3584, 18944, {1, 17}},  {7168, 5120, {1}},
    {5120, 27648, {1, 17}}, {10240, 8192, {1, 64}}, {59136, 8192, {1, 16}},  {8192, 29568, {1, 16}},
    {59392, 8192, {1, 16}}, {8192, 29696, {1, 16}}, {8192, 14848, {1, 16}},  {8192, 7424, {1, 16}},
    {8192, 3712, {1, 16}},  {24576, 8192, {1}},     {8192, 24576, {1, 128}}, {4096, 11008, {1}},
    {5120, 13696, {1}},     {2048, 10944, {1}},     {576, 2048, {1, 17}},
};

struct Type {
  const char* name;
  int bits;
  bool zero_points;
  CodeType codes = CodeType::integer;
};
const Type types[] = {{"uint4b8", 4, false},
                      {"uint4", 4, true},
                      {"uint8b128", 8, false},
                      {"uint8", 8, true},
                      {"e4m3", 8, false, CodeType::e4m3},
                      {"e2m1", 4, false, CodeType::e2m1}};
const int64_t group_sizes[] = {128, -1, 64, 32};

// Multiplications that one shape may take here.
int64_t affordable() {
#ifdef BILLFISH_GPU_TESTS
  return INT64_MAX;
#else
  const char* wanted = std::getenv("BILLFISH_SWEEP");
  if (wanted == nullptr) return int64_t{4} << 20;
  return std::strcmp(wanted, "all") == 0 ? INT64_MAX : std::atoll(wanted) << 20;
#endif
}

// All outputs of a small weight; of a large one those around the edges of strips, and some.
std::vector<int64_t> sampled_outputs(const Canonical& weight, int64_t rows, Random& random) {
  const int64_t out = weight.shape.out;
  const int64_t most = std::max<int64_t>(64, (int64_t{1} << 27) / (rows * weight.shape.in));
  std::set<int64_t> sample;
  if (out <= most) {
    for (int64_t n = 0; n < out; ++n) sample.insert(n);
  } else {
    for (const int64_t n : {int64_t{0}, int64_t{63}, int64_t{64}, int64_t{127}, out / 2, out - 64, out - 1}) {
      sample.insert(std::clamp<int64_t>(n, 0, out - 1));
    }
    while (static_cast<int64_t>(sample.size()) < most) sample.insert(random() % out);
  }
  return {sample.begin(), sample.end()};
}

// The sums of the columns of W, and of the absolute values in them.
struct ColumnSums {
  explicit ColumnSums(const Canonical& weight) : sums(weight.shape.in), magnitudes(weight.shape.in) {
    for (int64_t n = 0; n < weight.shape.out; ++n) {
      for (int64_t k = 0; k < weight.shape.in; ++k) {
        const double value = weight.weight(n, k);
        sums[k] += value;
        magnitudes[k] += std::abs(value);
      }
    }
  }
  std::vector<double> sums, magnitudes;
};

// The largest error over the sum of absolute products.
double check_multiplication(const std::string& what, const Canonical& weight, const ColumnSums& columns,
                            const linear_test::Input& x, const linear_test::Output& got, Random& random) {
  constexpr double bound = 1e-5;
  const std::vector<int32_t>& order = weight.shape.order;
  const auto input = [&](int64_t r, int64_t k) {
    return static_cast<double>(x.rows.data[r * x.rows.stride + (order.empty() ? k : order[k])]);
  };
  double largest = 0;
  const std::vector<int64_t> outputs = sampled_outputs(weight, got.rows, random);
  for (int64_t r = 0; r < got.rows; ++r) {
    double total = 0, all = 0, all_magnitude = 0;
    for (const int64_t n : outputs) {
      double value = weight.shape.has_bias ? weight.bias[n] : 0.0, magnitude = std::abs(value);
      for (int64_t k = 0; k < weight.shape.in; ++k) {
        const double product = weight.weight(n, k) * input(r, k);
        value += product;
        magnitude += std::abs(product);
      }
      const double error = std::abs(got.values[r * got.stride + n] - value) / magnitude;
      largest = std::max(largest, error);
      CHECK_MESSAGE(error <= bound, what << " row " << r << " output " << n << ": " << got.values[r * got.stride + n]
                                         << " instead of " << value);
    }
    for (int64_t n = 0; n < got.out; ++n) total += got.values[r * got.stride + n];
    for (int64_t n = 0; weight.shape.has_bias && n < got.out; ++n) all += weight.bias[n];
    for (int64_t k = 0; k < weight.shape.in; ++k) {
      all += columns.sums[k] * input(r, k);
      all_magnitude += columns.magnitudes[k] * std::abs(input(r, k));
    }
    // Errors of outputs have no common sign, so their sum is far smaller than the bound times all products.
    CHECK_MESSAGE(std::abs(total - all) <= 1e-6 * all_magnitude + 1e-3,
                  what << " row " << r << ": the outputs' sum is " << total << " instead of " << all);
  }
  return largest;
}

template <class Element>
double sweep_one(const Options& options, const std::vector<int64_t>& row_counts, Random& random) {
  Stream stream(Device::at(0));
  const Canonical weight = random_linear(options, random);
  const Packed packed(stream, weight);
  const ColumnSums columns(weight);
  double largest = 0;
  for (const int64_t rows : row_counts) {
    const std::string what = describe(options, rows, type_of<Element> == DType::f16 ? "half" : "bfloat16");
    const DeviceInput<Element> x(stream, rows, options.in, random);
    const Workspace workspace(stream, rows, options.in);
    const Result result(stream, rows, options.out, DType::f32, 4);
    const LinearCall call = result.call(packed.weight);
    linear<Element>(stream, &call, 1, x.matrix, workspace.workspace);
    const double error = check_multiplication(what, weight, columns, x.host, result.read(stream), random);
    workspace.check_counters(stream, what);
    largest = std::max(largest, error);
  }
  return largest;
}

// Every shape with every type where that is cheap, else with one after the other; group sizes, act-order, bias and the
// element type take turns.
template <size_t count>
void sweep(const char* name, const Shape (&shapes)[count], unsigned seed) {
  Random random(seed);
  int run = 0, left_out = 0, turn = 0;
  double largest = 0;
  for (const Shape& shape : shapes) {
    std::vector<int64_t> rows;
    for (const int64_t m : shape.rows) {
      if (m * shape.out * shape.in <= affordable()) rows.push_back(m);
    }
    left_out += static_cast<int>(shape.rows.size() - rows.size());
    if (rows.empty()) continue;
    const bool cheap = shape.out * shape.in <= int64_t{1} << 20;
    constexpr int type_count = std::size(types);
    for (int t = 0; t < (cheap ? type_count : 1); ++t, ++turn) {
      const Type& type = types[(cheap ? t : turn) % type_count];
      Options options{
          .bits = type.bits, .codes = type.codes, .out = shape.out, .in = shape.in, .zero_points = type.zero_points};
      options.group_size = group_sizes[turn / 4 % 4];
      if (shape.in % std::max<int64_t>(options.group_size, 1) != 0) options.group_size = -1;
      options.order = options.group_size > 0 && turn % 5 == 3;
      options.bias = turn % 3 == 1;
      options.scale_type = turn % 2 ? DType::bf16 : DType::f16;
      const double error =
          turn % 2 ? sweep_one<bfloat16>(options, rows, random) : sweep_one<half>(options, rows, random);
      largest = std::max(largest, error);
      run += static_cast<int>(rows.size());
    }
  }
  std::printf("  %s: %d multiplications, largest error %.1e of the absolute products", name, run, largest);
  if (left_out > 0) std::printf("; %d larger ones are for GPUs, or BILLFISH_SWEEP=all", left_out);
  std::printf("\n");
}

}  // namespace

TEST(cuda_gemm_equals_fp64_for_marlins_shapes) { sweep("Marlin's shapes", marlin_shapes, 11); }
TEST(cuda_gemm_equals_fp64_for_serving_shapes) { sweep("shapes of vLLM and Machete", serving_shapes, 12); }
TEST(cuda_gemm_equals_fp64_for_shapes_of_models) { sweep("shapes of models", model_shapes, 13); }
