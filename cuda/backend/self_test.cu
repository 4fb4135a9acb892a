#include "backend/device_backend.h"

#include <cstdint>
#include <string>
#include <vector>

#include "engine/error.h"
#include "gemm/planned_linear.h"
#include "gemm/tiles.h"
#include "layer/tensor.h"
#include "primitives/index.h"
#include "primitives/macros.h"
#include "primitives/numbers.h"
#include "primitives/pointer.h"
#include "runtime/launch.h"
#include "runtime/memory.h"

namespace billfish::BILLFISH_TARGET {

// A multiplicative hash: every thread writes a value unique to its index.
HOST_DEVICE uint32_t expected_value(uint32_t index) { return (index * 2654435761u) ^ (index >> 7); }

// The last thread writes the architecture that the kernel was compiled for.
struct WriteExpectedValues {
  static constexpr int max_threads = 256;
  Global<uint32_t> out;
  uint32_t count;

  DEVICE void operator()() const {
    const uint32_t index = block_index().x * block_size().x + thread_index().x;
    if (index < count) out[index] = expected_value(index);
    if (index == count) out[index] = static_cast<uint32_t>(compiled_architecture());
  }
};

namespace {

[[noreturn]] void fail(const Device& device, const std::string& what) {
  const DeviceProperties& properties = device.properties();
  throw Error("INTERNAL", "self-test of " + device.name() + " (compute capability " +
                              std::to_string(properties.compute_capability) + ", code for " +
                              std::to_string(properties.code_architecture) + "): " + what + ".");
}

DeviceMemory upload(Stream& stream, const void* data, size_t bytes) {
  DeviceMemory memory(stream.device(), bytes);
  stream.copy_to_device(memory.data(), data, bytes);
  return memory;
}

void test_launch(Stream& stream) {
  constexpr uint32_t count = 100'003, threads = 256;
  const Device& device = stream.device();
  const DeviceMemory memory(stream.device(), (count + 1) * sizeof(uint32_t));
  launch(stream, {.grid = {(count + threads) / threads}, .block = {threads}},
         WriteExpectedValues{memory.as<uint32_t>(), count});
  std::vector<uint32_t> values(count + 1);
  stream.copy_to_host(values.data(), memory.data(), values.size() * sizeof(uint32_t));
  for (uint32_t i = 0; i < count; ++i) {
    if (values[i] == expected_value(i)) continue;
    fail(device, "thread " + std::to_string(i) + " wrote " + std::to_string(values[i]) + " instead of " +
                     std::to_string(expected_value(i)));
  }
  if (values[count] != static_cast<uint32_t>(device.properties().code_architecture)) {
    fail(device, "its kernels were compiled for " + std::to_string(values[count]));
  }
}

// A product whose sums are exact in fp32 in any order: small integers, or multiples of 2^-9 below 2, times -1, 0 or 1.
constexpr int64_t rows = 8, outputs = 128, inputs = 512, group_size = 128;

float x_of(int64_t row, int64_t input) {
  return static_cast<float>(static_cast<int>(expected_value(static_cast<uint32_t>(row * inputs + input)) % 3) - 1);
}
// The weights of a product: their bits, and what codes are. 16-bit ones are those of 4 bits.
struct Kind {
  int bits;
  CodeType codes;
  const char* name;
};

uint32_t code_of(const Kind& kind, int64_t output, int64_t input) {
  const uint32_t bits = expected_value(static_cast<uint32_t>(output * inputs + input) + 77) >> 9;
  if (kind.codes == CodeType::e4m3) return bits & 0xbfu;  // below 2, subnormals among them
  return bits & ((1u << (kind.bits == 16 ? 4 : kind.bits)) - 1);
}
float weight_of(const Kind& kind, int64_t output, int64_t input) {
  return number_of_code(kind.codes, code_of(kind, output, input), 1 << ((kind.bits == 16 ? 4 : kind.bits) - 1));
}

struct Packed {
  DeviceMemory block;
  LinearWeight weight;
};

// Quantized with a scale of 1 everywhere.
Packed quantized_weight(Stream& stream, const Kind& kind) {
  CanonicalShape shape;
  shape.name = "self-test";
  shape.bits = kind.bits;
  shape.codes = kind.codes;
  shape.out = outputs;
  shape.in = inputs;
  shape.group_size = group_size;
  shape.scale_type = kind.codes == CodeType::e2m1 ? DType::f8_e8m0 : DType::f32;
  const auto codes_a_word = static_cast<int64_t>(32 / kind.bits);
  std::vector<uint32_t> codes(static_cast<size_t>(outputs * shape.words_per_row()));
  for (int64_t output = 0; output < outputs; ++output) {
    for (int64_t input = 0; input < inputs; ++input) {
      codes[static_cast<size_t>(output * shape.words_per_row() + input / codes_a_word)] |=
          code_of(kind, output, input) << input % codes_a_word * kind.bits;
    }
  }
  const auto entries = static_cast<size_t>(outputs * shape.groups());
  const std::vector<float> scales(entries, 1.0f);
  const std::vector<uint8_t> exponents(entries, 127);
  Packed packed{DeviceMemory(stream.device(), quantized_bytes(shape)), {}};
  packed.weight = lay_out_quantized(stream, shape, packed.block.data());
  const DeviceMemory codes_there = upload(stream, codes.data(), codes.size() * sizeof(uint32_t));
  const DeviceMemory scales_there = kind.codes == CodeType::e2m1
                                        ? upload(stream, exponents.data(), entries)
                                        : upload(stream, scales.data(), entries * sizeof(float));
  fill_quantized(stream, packed.weight, {0, outputs, codes_there.as<uint32_t>(), scales_there.data()});
  stream.synchronize();
  return packed;
}

Packed matrix_weight(Stream& stream, const Kind& kind, DType element_type) {
  std::vector<float> elements;
  for (int64_t output = 0; output < outputs; ++output) {
    for (int64_t input = 0; input < inputs; ++input) elements.push_back(weight_of(kind, output, input));
  }
  Packed packed{DeviceMemory(stream.device(), matrix_bytes(outputs, inputs, false)), {}};
  packed.weight = lay_out_matrix(stream, outputs, inputs, element_type, {}, packed.block.data());
  const DeviceMemory there = upload(stream, elements.data(), elements.size() * sizeof(float));
  fill_matrix(stream, packed.weight, 0, outputs, DType::f32, there.data());
  stream.synchronize();
  return packed;
}

void check_product(const Device& device, const std::vector<float>& out, const Kind& kind, const std::string& what) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t output = 0; output < outputs; ++output) {
      float expected = 0;
      for (int64_t input = 0; input < inputs; ++input) expected += x_of(row, input) * weight_of(kind, output, input);
      const float got = out[static_cast<size_t>(row * outputs + output)];
      if (got == expected) continue;
      fail(device, what + " gives " + std::to_string(got) + " instead of " + std::to_string(expected) + " at row " +
                       std::to_string(row) + ", output " + std::to_string(output));
    }
  }
}

// x is converted to Element on the device right before the product, to catch one that does not wait for the previous
// kernel.
template <class Element>
void test_products(Stream& stream, DType element_type, const std::string& element_name) {
  Device& device = stream.device();
  std::vector<float> x;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t input = 0; input < inputs; ++input) x.push_back(x_of(row, input));
  }
  const DeviceMemory wide = upload(stream, x.data(), x.size() * sizeof(float));
  const DeviceMemory narrow(device, x.size() * sizeof(Element));
  const DeviceMemory out(device, static_cast<size_t>(rows * outputs) * sizeof(float));
  const DeviceMemory scratch(device, linear_workspace_bytes({rows, 0, 0}));
  stream.fill(scratch.data(), 0, scratch.bytes());
  const LinearWorkspace workspace{scratch.data(), scratch.bytes()};

  for (const Kind& kind : {Kind{4, CodeType::integer, "4 bits"}, Kind{8, CodeType::integer, "8 bits"},
                           Kind{8, CodeType::e4m3, "8-bit floats"}, Kind{4, CodeType::e2m1, "4-bit floats"},
                           Kind{16, CodeType::integer, "16 bits"}}) {
    const Packed packed = kind.bits == 16 ? matrix_weight(stream, kind, element_type) : quantized_weight(stream, kind);
    const LinearCall call{&packed.weight, out.data(), outputs, DType::f32};
    int64_t columns = 0;
    const GemmProblem problem = problem_of(&call, 1, rows, &columns);
    for (const bool bulk : {false, true}) {
      GemmMachine machine = machine_of(device);
      if (bulk && (machine.kernels == GemmKernels::staged || kind.bits == 16)) continue;
      machine.kernels = bulk ? GemmKernels::bulk_first : GemmKernels::staged;
      const std::string what = std::string("the ") + (bulk ? "bulk-copy " : "") + "product of " + element_name +
                               " with weights of " + kind.name;
      const GemmPlan plan = plan_gemm(machine, problem);
      if (plan.shape.bulk != bulk) fail(device, what + " is not planned");
      stream.fill(narrow.data(), 0xff, narrow.bytes());  // NaN, which would spread
      stream.fill(out.data(), 0xff, out.bytes());
      convert<float, Element>(stream, {wide.as<float>(), rows, inputs, inputs},
                              {narrow.as<Element>(), rows, inputs, inputs});
      planned_linear<Element>(stream, &call, 1, {narrow.as<Element>(), rows, inputs, inputs}, workspace, plan);
      std::vector<float> result(static_cast<size_t>(rows * outputs));
      stream.copy_to_host(result.data(), out.data(), out.bytes());
      check_product(device, result, kind, what);
    }
  }
}

}  // namespace

void self_test(int index) {
  Stream stream(Device::at(index));
  test_launch(stream);
  test_products<half>(stream, DType::f16, "float16");
  test_products<bfloat16>(stream, DType::bf16, "bfloat16");
}

}  // namespace billfish::BILLFISH_TARGET
