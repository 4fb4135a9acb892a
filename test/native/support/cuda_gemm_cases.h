// What the tests of the GEMM on devices share: weights packed on an emulated device, runs, and fp64 expectations.
#pragma once
#include <string>
#include <vector>

#include "gemm/layout.h"
#include "gemm/planned_linear.h"
#include "machine/schedule.h"
#include "panels/linear.h"
#include "runtime/memory.h"
#include "runtime/stream.h"
#include "support/linear_cases.h"

namespace gemm_test {

using namespace billfish;
using namespace billfish::BILLFISH_TARGET;
using billfish::DType;
using billfish::emulator::Schedule;
using billfish::emulator::ScheduleScope;
using linear_test::Canonical;
using linear_test::Random;

template <class T>
DeviceMemory upload(Stream& stream, const std::vector<T>& values) {
  DeviceMemory memory(stream.device(), values.size() * sizeof(T));
  if (!values.empty()) stream.copy_to_device(memory.data(), values.data(), values.size() * sizeof(T));
  return memory;
}

template <class T>
std::vector<T> download(Stream& stream, const void* from, size_t count) {
  std::vector<T> values(count);
  if (count > 0) stream.copy_to_host(values.data(), from, count * sizeof(T));
  return values;
}

// A quantized weight on a device, filled in slabs of one, two, three ... strips.
struct Packed {
  // rows(first, count) gives canonical rows.
  template <class Rows>
  Packed(Stream& stream, const CanonicalShape& shape, const Rows& rows_of)
      : block(stream.device(), quantized_bytes(shape)) {
    weight = lay_out_quantized(stream, shape, block.data());
    for (int64_t first = 0, height = 64; first < shape.out; first += height, height += 64) {
      const CanonicalRows rows = rows_of(first, std::min(height, shape.out - first));
      const DeviceMemory codes = upload(stream, rows.codes), scales = upload(stream, rows.scales);
      const DeviceMemory zeros = upload(stream, rows.zeros), bias = upload(stream, rows.bias);
      const DeviceMemory output_scales = upload(stream, rows.output_scales);
      fill_quantized(stream, weight,
                     {rows.first, rows.count, codes.as<uint32_t>(), scales.data(),
                      rows.zeros.empty() ? nullptr : zeros.as<uint8_t>(),
                      rows.output_scales.empty() ? nullptr : output_scales.as<float>(),
                      rows.bias.empty() ? nullptr : bias.as<float>()});
      stream.synchronize();
    }
  }
  Packed(Stream& stream, const Canonical& canonical)
      : Packed(stream, canonical.shape, [&](int64_t first, int64_t count) { return canonical.rows(first, count); }) {}
  DeviceMemory block;
  LinearWeight weight;
};

template <class Element>
constexpr DType type_of = DType::f16;
template <>
inline constexpr DType type_of<bfloat16> = DType::bf16;

// The nearest value of the element type.
template <class Element>
float rounded(float value) {
  return to_float(from_float<Element>(value));
}

// x on a device: rows `stride` apart, beginning `offset` elements into the allocation; gaps hold NaN.
template <class Element>
struct DeviceInput {
  DeviceInput(Stream& stream, int64_t rows, int64_t columns, Random& random, int64_t gap = 8, int64_t offset = 0,
              bool small_integers = false)
      : host(rows, columns) {
    std::normal_distribution<float> normal;
    std::vector<Element> elements(static_cast<size_t>(offset + rows * (columns + gap)), from_float<Element>(NAN));
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t k = 0; k < columns; ++k) {
        const float value = small_integers ? static_cast<float>(static_cast<int>(random() % 3) - 1) : normal(random);
        host.at(r, k) = rounded<Element>(value);
        elements[static_cast<size_t>(offset + r * (columns + gap) + k)] = from_float<Element>(value);
      }
    }
    memory = upload(stream, elements);
    matrix = {memory.as<Element>() + offset, rows, columns, columns + gap};
  }
  linear_test::Input host;
  DeviceMemory memory;
  Matrix<const Element> matrix;
};

// A workspace, zeroed, with room for gathering. Checks that the launches leave the counters at zero.
struct Workspace {
  Workspace(Stream& stream, int64_t rows, int64_t inputs) : Workspace(stream, LinearLimits{rows, inputs}) {}
  Workspace(Stream& stream, const LinearLimits& limits) : memory(stream.device(), linear_workspace_bytes(limits)) {
    stream.fill(memory.data(), 0, 4096);  // the counters
    workspace = {memory.data(), memory.bytes(), limits.panel_bytes};
  }
  void check_counters(Stream& stream, const std::string& what) const {
    for (const int32_t counter : download<int32_t>(stream, memory.data(), 1024)) {
      CHECK_MESSAGE(counter == 0, what << ": a counter is left at " << counter);
    }
  }
  DeviceMemory memory;
  LinearWorkspace workspace;
};

// What linear() wrote into rows with a gap, as floats; the gaps are checked.
struct Result {
  Result(Stream& stream, int64_t row_count, int64_t columns, DType out_type, int64_t gap)
      : rows(row_count),
        out(columns),
        stride(columns + gap),
        type(out_type),
        memory(upload(stream, std::vector<uint8_t>(static_cast<size_t>(rows * stride) * byte_size(type), 0x3c))) {}
  LinearCall call(const LinearWeight& weight) const { return {&weight, memory.data(), stride, type}; }

  linear_test::Output read(Stream& stream) const {
    linear_test::Output output(rows, out);
    const auto bytes = download<uint8_t>(stream, memory.data(), memory.bytes());
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t n = 0; n < stride; ++n) {
        float value;
        const uint8_t* from = bytes.data() + (r * stride + n) * static_cast<int64_t>(byte_size(type));
        if (type == DType::f32) {
          std::memcpy(&value, from, 4);
        } else {
          uint16_t half;
          std::memcpy(&half, from, 2);
          value = type == DType::f16 ? f16_to_float(half) : bf16_to_float(half);
        }
        if (n < out) {
          output.values[r * output.stride + n] = value;
          continue;
        }
        CHECK_MESSAGE(from[0] == 0x3c, "row " << r << ": the gap was written to");
        CHECK_MESSAGE(from[1] == 0x3c, "row " << r << ": the gap was written to");
      }
    }
    return output;
  }
  int64_t rows, out, stride;
  DType type;
  DeviceMemory memory;
};

// Multiplies with this tile, by `blocks` blocks. For a device or inputs that the tile does not support the plan has no
// stages, and nothing runs.
template <class Element>
GemmPlan run_tile(Stream& stream, const LinearWeight& weight, const Matrix<const Element>& x,
                  const Workspace& workspace, const Result& result, int tile, int64_t blocks,
                  bool whole_tiles = false) {
  const LinearCall call = result.call(weight);
  int64_t outputs;
  const GemmPlan plan =
      plan_tile(machine_of(stream.device()), problem_of(&call, 1, x.rows, &outputs), tile, blocks, whole_tiles);
  if (plan.stages == 0) return plan;
  planned_linear<Element>(stream, &call, 1, x, workspace.workspace, plan);
  workspace.check_counters(stream, "tile " + std::to_string(tile));
  return plan;
}

// The same bits in every schedule, whoever comes last.
inline void check_tile_in_schedules(int tile, int64_t inputs, const std::vector<Schedule>& schedules) {
  std::vector<float> first;
  for (const Schedule& schedule : schedules) {
    const ScheduleScope scope(schedule);
    Random random(12);
    Stream stream(Device::at(0));
    const Packed packed(stream,
                        linear_test::random_linear({.bits = 4, .out = 192, .in = inputs, .group_size = 64}, random));
    const DeviceInput<half> x(stream, 5, inputs, random);
    const Workspace workspace(stream, 5, 0);
    const Result result(stream, 5, 192, DType::f32, 0);
    CHECK(run_tile<half>(stream, packed.weight, x.matrix, workspace, result, tile, 7).stages >= 2);
    const linear_test::Output got = result.read(stream);
    if (first.empty()) first = got.values;
    CHECK(got.values == first);
  }
}

// fp32 outputs: the sums' own rounding. 16-bit outputs: half a unit in their last place, and the same.
inline void check_close(const linear_test::Output& got, const linear_test::Expected& expected, DType type,
                        const std::string& what) {
  const double unit = type == DType::f32 ? 0 : type == DType::f16 ? 0x1p-11 : 0x1p-8;
  int failures = 0;
  for (int64_t r = 0; r < got.rows; ++r) {
    for (int64_t n = 0; n < got.out; ++n) {
      const double value = expected.values[r * got.out + n];
      const double error = std::abs(got.values[r * got.stride + n] - value);
      const double bound = 1e-5 * expected.magnitudes[r * got.out + n] + unit * std::abs(value) + 1e-7;
      if (error <= bound || ++failures > 3) continue;
      CHECK_MESSAGE(error <= bound, what << " row " << r << " output " << n << ": " << got.values[r * got.stride + n]
                                         << " instead of " << value);
    }
  }
}

inline std::string describe(const linear_test::Options& o, int64_t rows, const std::string& element) {
  return element + " M" + std::to_string(rows) + " K" + std::to_string(o.in) + " N" + std::to_string(o.out) + " g" +
         std::to_string(o.group_size) + " bits " + std::to_string(o.bits) +
         (o.codes != CodeType::integer ? " float"
          : o.zero_points              ? " asym"
                                       : " sym") +
         (o.order ? " act-order" : "") + (o.bias ? " bias" : "");
}

}  // namespace gemm_test
