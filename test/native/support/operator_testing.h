// For the tests that run every operator on every backend: a backend, operands in its memory, and what they must become.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backends.h"
#include "checkpoint/tensor_check.h"
#include "engine/random_weights.h"
#include "support/check.h"
#include "support/every_instruction_set.h"
#include "support/kernel_numbers.h"
#include "support/kernel_testing.h"

namespace billfish {

// A matrix in the backend's memory, whose rows may have a gap behind them.
struct Operand {
  Tensor tensor;
  std::vector<double> values;  // what was put there, rounded as the backend has it, without gaps
};

// How far a result may be off: relative * |wanted| + absolute, besides what rounding to the operand's type costs.
struct Tolerance {
  double relative = 0, absolute = 0;
};

class OperatorBench {
 public:
  OperatorBench(std::string name, std::string device, DType activation_type)
      : name_(std::move(name)), device_(std::move(device)), activation_type_(activation_type) {}

  // A new backend, for a program that has the operators, ropes and cache layers of the test. Everything before is gone.
  void prepare(Program program, const std::vector<WeightShape>& weights = {}) {
    if (program.values.empty()) program.values.push_back({8, RowKind::tokens, ValueClass::residual});
    program.output = static_cast<ValueId>(program.values.size());
    program.values.push_back({1, RowKind::logits, ValueClass::logits});
    ropes_ = program.ropes;
    weights_.clear();
    backend_ = make_backend(device_, {device_ == "cpu", DType::f32, activation_type_});
    backend_->prepare(program, weights, limits);
  }

  // Before operators that depend on the batch.
  void begin(const Batch& batch) { backend_->begin(batch, ropes_); }

  template <class Operands>
  void run(const Operands& call) {
    backend_->run(call);
  }

  // `dense` has no gaps. A gap of 1 leaves most rows unaligned.
  Operand put(ValueClass kind, const std::vector<float>& dense, int64_t columns, int64_t gap = 0) {
    Operand operand;
    Tensor& tensor = operand.tensor;
    tensor = {nullptr, backend_->value_type(kind), static_cast<int64_t>(dense.size()) / columns, columns,
              columns + gap};
    const size_t size = byte_size(tensor.type);
    std::vector<float> memory(static_cast<size_t>(tensor.rows * tensor.stride) * size / sizeof(float) + 1);
    for (int64_t i = 0; i < tensor.rows * tensor.stride; ++i) {
      const int64_t row = i / tensor.stride, column = i % tensor.stride;
      const bool inside = column < columns;
      const float value = inside ? dense[static_cast<size_t>(row * columns + column)] : 0.0f;
      char* const at = reinterpret_cast<char*>(memory.data()) + static_cast<size_t>(i) * size;
      if (tensor.type == DType::f32) {
        const float element = inside ? value : untouched;
        std::memcpy(at, &element, size);
        if (inside) operand.values.push_back(value);
      } else {
        const uint16_t element = inside ? narrow(tensor.type, value) : untouched_bits;
        std::memcpy(at, &element, size);
        if (inside) operand.values.push_back(widen(tensor.type, element));
      }
    }
    tensor.data = backend_->allocate(memory.size() * sizeof(float), MemoryUse::buffers);
    backend_->from_host(memory.data(), raw(tensor, memory.size()));
    return operand;
  }
  Operand room(ValueClass kind, int64_t rows, int64_t columns, int64_t gap = 0) {
    return put(kind, std::vector<float>(static_cast<size_t>(rows * columns)), columns, gap);
  }

  // What is in the operand now. Nothing may have been written into the gaps.
  std::vector<double> read(const Operand& operand) {
    const Tensor& tensor = operand.tensor;
    const size_t size = byte_size(tensor.type);
    std::vector<float> memory(static_cast<size_t>(tensor.rows * tensor.stride) * size / sizeof(float) + 1);
    backend_->to_host(raw(tensor, memory.size()), memory.data());
    std::vector<double> values;
    for (int64_t i = 0; i < tensor.rows * tensor.stride; ++i) {
      const char* const at = reinterpret_cast<const char*>(memory.data()) + static_cast<size_t>(i) * size;
      float value = 0;
      uint16_t bits = 0;
      if (tensor.type == DType::f32) {
        std::memcpy(&value, at, size);
      } else {
        std::memcpy(&bits, at, size);
        value = widen(tensor.type, bits);
      }
      if (i % tensor.stride < tensor.columns) {
        values.push_back(value);
      } else {
        const bool intact = tensor.type == DType::f32 ? value == untouched : bits == untouched_bits;
        CHECK_MESSAGE(intact,
                      name_ << ": row " << i / tensor.stride << " was written beyond column " << tensor.columns);
      }
    }
    return values;
  }

  void check(const char* what, const Operand& operand, const std::vector<double>& wanted, const Tolerance& tolerance) {
    check(what, operand, wanted, [&](size_t) { return tolerance; });
  }
  // `tolerance_of` an element.
  template <class ToleranceOf>
  void check(const char* what, const Operand& operand, const std::vector<double>& wanted, ToleranceOf tolerance_of) {
    const std::vector<double> got = read(operand);
    const DType type = operand.tensor.type;
    CHECK(got.size() == wanted.size());
    for (size_t i = 0; i < got.size() && i < wanted.size(); ++i) {
      Tolerance tolerance = tolerance_of(i);
      // fp16 has no normal numbers below 6e-5: there the error is half of the smallest one.
      if (type != DType::f32) tolerance.relative += 1.01 * rounding(type), tolerance.absolute += 3e-8;
      CHECK_MESSAGE(std::abs(got[i] - wanted[i]) <= tolerance.relative * std::abs(wanted[i]) + tolerance.absolute,
                    name_ << ", " << what << " of " << operand.tensor.columns << " columns: element " << i << " is "
                          << got[i] << ", not " << wanted[i]);
    }
  }

  // Weights. Matrices come before vectors, and have been announced to prepare(); finish() is behind all of them.
  const Weight* matrix(const std::vector<float>& values, int64_t out, int64_t in, DType stored = DType::f32,
                       const std::vector<float>& bias = {}) {
    weights_.push_back(backend_->make_matrix(out, in, stored, bias));
    const std::vector<uint16_t> bits = stored == DType::f32 ? std::vector<uint16_t>() : narrow(stored, values);
    for (int64_t first = 0; first < out; first += Backend::row_slab) {
      const auto at = static_cast<size_t>(first * in);
      const void* const rows = stored == DType::f32 ? static_cast<const void*>(&values[at]) : &bits[at];
      backend_->fill_matrix(*weights_.back(), first, std::min(Backend::row_slab, out - first), rows);
    }
    return weights_.back().get();
  }
  // Random codes; `values` becomes what they stand for, [out][in].
  const Weight* quantized(const CanonicalShape& shape, std::vector<double>& values) {
    const auto source = random_quantized(shape);
    weights_.push_back(backend_->make_quantized(source->shape()));
    CanonicalRows rows;
    for (int64_t first = 0; first < shape.out; first += Backend::row_slab) {
      source->read(first, std::min(Backend::row_slab, shape.out - first), rows);
      backend_->fill_quantized(*weights_.back(), rows);
      for (int64_t r = 0; r < rows.count; ++r) {
        for (int64_t k = 0; k < shape.in; ++k) {
          const int64_t at = r * shape.groups() + k / shape.group_size, per_word = 32 / shape.bits;
          const uint32_t word = rows.codes[static_cast<size_t>(r * shape.words_per_row() + k / per_word)];
          const auto code = static_cast<int>(word >> (k % per_word * shape.bits) & ((1u << shape.bits) - 1));
          const int zero = shape.has_zero_points ? rows.zeros[static_cast<size_t>(at)] : 1 << (shape.bits - 1);
          const double scale = number_at(shape.scale_type, rows.scales.data(), at);
          const double output_scale = shape.has_output_scales ? rows.output_scales[static_cast<size_t>(r)] : 1.0f;
          const float number = number_of_code(shape.codes, static_cast<uint32_t>(code), zero);
          values.push_back(output_scale * scale * number);
        }
      }
    }
    return weights_.back().get();
  }
  const Weight* vector(const std::vector<float>& values) {
    weights_.push_back(backend_->make_vector(values));
    return weights_.back().get();
  }
  void finish() { backend_->finish_loading(); }

  // A state layer whose slots hold what another sequence could have left there.
  LayerState state(int64_t width) {
    const auto floats = static_cast<size_t>(limits.max_sequences * width) + 1;  // read() copies one more
    auto* const data = static_cast<float*>(backend_->allocate(floats * sizeof(float), MemoryUse::states));
    const std::vector<float> left(floats, NAN);
    backend_->from_host(left.data(), raw({data}, floats));
    return {data, width};
  }

  Backend& backend() { return *backend_; }
  DType activation_type() const { return backend_->value_type(ValueClass::activation); }
  const std::string& name() const { return name_; }

  static constexpr StageLimits limits{16, 64, 160, 16, 3};  // block size, blocks, rows, logit rows, sequences

 private:
  static constexpr float untouched = -12345.0f;
  static constexpr uint16_t untouched_bits = 0x7e55;  // a NaN

  // All bytes of an operand as fp32, which is how bits go to and from devices unchanged.
  static Tensor raw(const Tensor& tensor, size_t floats) {
    const auto columns = static_cast<int64_t>(floats);
    return {tensor.data, DType::f32, 1, columns, columns};
  }

  std::string name_, device_;
  DType activation_type_;
  std::vector<RopeSpec> ropes_;
  std::unique_ptr<Backend> backend_;
  std::vector<std::unique_ptr<Weight>> weights_;  // goes before the backend
};

// Calls test(bench) for the CPU with every instruction set that it has, and for a GPU's both types: in the emulator
// with every schedule, or, in the program for GPUs, on the first one.
template <class Test>
void on_every_backend(const Test& test) {
#ifdef BILLFISH_GPU_TESTS
  const char* const device = "cuda:0";
#else
  const char* const device = "emulated:0";
  on_every_instruction_set([&] {
    OperatorBench bench(std::string("cpu, ") + cpu::name(cpu::instruction_set()), "cpu", DType::f16);
    test(bench);
  });
#endif
  for (const DType type : {DType::f16, DType::bf16}) {
    in_every_schedule([&] {
      OperatorBench bench(std::string(device) + (type == DType::f16 ? ", fp16" : ", bf16"), device, type);
      test(bench);
    });
  }
}

}  // namespace billfish
