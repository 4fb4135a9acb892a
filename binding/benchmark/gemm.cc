#include "benchmark/gemm.h"

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>

#include "engine/random_weights.h"
#include "engine/row_slabs.h"

namespace billfish::bench {
namespace {

StageLimits limits_of(int64_t rows) { return {32, 1, static_cast<int32_t>(rows), 1}; }

// A program with this one call. Its output is a value that no operator computes, so that nothing is allocated to pass
// it on.
Program program_of(const GemmCase& shape) {
  Program program;
  program.values.push_back({shape.in, RowKind::tokens, ValueClass::activation});
  Linear linear{0, {}};
  for (size_t i = 0; i < shape.outs.size(); ++i) {
    program.values.push_back({shape.outs[i], RowKind::tokens, ValueClass::activation});
    linear.targets.push_back({static_cast<WeightId>(i), static_cast<ValueId>(i + 1)});
  }
  program.operators.emplace_back(linear);
  program.output = static_cast<ValueId>(program.values.size());
  program.values.push_back({1, RowKind::logits, ValueClass::logits});
  return program;
}

CanonicalShape quantized_shape(const GemmOptions& options, int64_t bits, int64_t out, int64_t in, DType scale_type) {
  CanonicalShape shape;
  shape.name = "A weight of " + std::to_string(out) + " x " + std::to_string(in);
  shape.bits = static_cast<int>(bits);
  shape.out = out;
  shape.in = in;
  shape.group_size = options.group_size == 0 ? in : std::min(options.group_size, in);
  shape.has_zero_points = options.zero_points;
  shape.scale_type = scale_type;
  return shape;
}

std::vector<WeightShape> weight_shapes(const GemmCase& shape, const GemmOptions& options, int64_t bits) {
  std::vector<WeightShape> shapes;
  for (const int64_t out : shape.outs) {
    const auto kind = bits == 16 ? WeightKind::matrix : WeightKind::quantized;
    const int64_t group = quantized_shape(options, bits, out, shape.in, DType::f16).group_size;
    shapes.push_back({"weight", kind, out, shape.in, bits == 16 ? 0 : group});
  }
  return shapes;
}

// One case with weights of one kind, in enough copies to exceed every cache.
class GemmBench {
 public:
  GemmBench(const Target& target, const GemmCase& shape, const GemmOptions& options, int64_t bits, int64_t max_rows,
            const Control& control)
      : bench_(target, program_of(shape), weight_shapes(shape, options, bits), limits_of(max_rows), control) {
    const DType type = target.backend.activation_type;
    do {
      control.check();
      auto& copy = copies_.emplace_back();
      for (const int64_t out : shape.outs) {
        copy.push_back(bits == 16 ? random_matrix(out, shape.in, type)
                                  : random_weight(quantized_shape(options, bits, out, shape.in, type)));
      }
      weight_bytes_ = bench_.backend().memory().weights / copies_.size();
    } while (copies_.size() < static_cast<size_t>(bench_.copies_exceeding_caches(weight_bytes_)));
    bench_.backend().finish_loading();
    x_ = bench_.random_activations(max_rows, shape.in);
    for (const int64_t out : shape.outs) outs_.push_back(bench_.allocate_activations(max_rows, out));
  }

  BenchmarkHooks& benchmark_hooks() { return bench_.benchmark_hooks(); }
  uint64_t weight_bytes() const { return weight_bytes_; }
  uint64_t activation_bytes(int64_t rows) const {
    const auto add = [](int64_t sum, const Tensor& out) { return sum + out.columns; };
    const int64_t columns = std::accumulate(outs_.begin(), outs_.end(), x_.columns, add);
    return static_cast<uint64_t>(rows * columns) * byte_size(x_.type);
  }

  Timing linear(int64_t rows) {
    std::vector<Call<LinearTarget>> targets;
    return measure(rows, [&](const Tensor& x, const std::vector<Tensor>& outs, int copy) {
      targets.clear();
      for (size_t i = 0; i < outs.size(); ++i) {
        targets.push_back({copies_[static_cast<size_t>(copy)][i].get(), outs[i]});
      }
      bench_.backend().run(Call<Linear>{x, targets});
    });
  }

  // For a single matrix with the vendor library; 0 if it cannot.
  double vendor_seconds(int64_t rows) {
    bool done = true;
    const Timing timing = measure(rows, [&](const Tensor& x, const std::vector<Tensor>& outs, int copy) {
      done = benchmark_hooks().vendor_linear(x, *copies_[static_cast<size_t>(copy)][0], outs[0]) && done;
    });
    return done ? timing.median : 0;
  }

 private:
  template <class One>
  Timing measure(int64_t rows, One one) {
    Tensor x = x_;
    std::vector<Tensor> outs = outs_;
    x.rows = rows;
    for (Tensor& out : outs) out.rows = rows;
    return bench_.measure(static_cast<int>(copies_.size()), [&](int copy) { one(x, outs, copy); });
  }

  std::unique_ptr<Weight> random_weight(const CanonicalShape& shape) {
    const std::unique_ptr<CanonicalSource> source = random_quantized(shape);
    auto weight = bench_.backend().make_quantized(shape);
    for_each_slab(shape.out, [&](int64_t first, int64_t count) {
      thread_local CanonicalRows rows;
      source->read(first, count, rows);
      bench_.backend().fill_quantized(*weight, rows);
    });
    return weight;
  }

  std::unique_ptr<Weight> random_matrix(int64_t out, int64_t in, DType type) {
    const RandomMatrix matrix(in, type);
    auto weight = bench_.backend().make_matrix(out, in, type, {});
    for_each_slab(out, [&](int64_t first, int64_t count) {
      thread_local std::vector<uint8_t> rows;
      rows.resize(static_cast<size_t>(count * in) * byte_size(type));
      matrix.read(first, count, rows.data());
      bench_.backend().fill_matrix(*weight, first, count, rows.data());
    });
    return weight;
  }

  BenchmarkHarness bench_;
  std::vector<std::vector<std::unique_ptr<Weight>>> copies_;  // [copy][target]
  uint64_t weight_bytes_ = 0;
  Tensor x_;
  std::vector<Tensor> outs_;
};

// The same outputs as one weight.
GemmCase as_one(const GemmCase& shape) {
  return {{std::accumulate(shape.outs.begin(), shape.outs.end(), int64_t{0})}, shape.in};
}

}  // namespace

GemmMachine measure_gemm(const Target& target, const GemmOptions& options, const Control& control,
                         const std::function<void(const GemmResult&)>& on_result) {
  GemmMachine machine;
  {
    const std::unique_ptr<Backend> backend = make_backend(target.device, target.backend);
    const std::unique_ptr<BenchmarkHooks> hooks = backend->benchmark_hooks();
    machine = {hooks->machine(), hooks->memory_traffic(), hooks->vendor(), hooks->times_are_meaningful()};
  }
  const int64_t max_rows = *std::max_element(options.rows.begin(), options.rows.end());
  for (size_t index = 0; index < options.cases.size(); ++index) {
    const GemmCase& shape = options.cases[index];
    std::map<int64_t, double> vendor_seconds;  // by rows
    if (!machine.vendor.empty()) {
      GemmBench bench(target, as_one(shape), options, 16, max_rows, control);
      for (const int64_t rows : options.rows) vendor_seconds[rows] = bench.vendor_seconds(rows);
    }
    for (const int64_t bits : options.bits) {
      GemmBench bench(target, shape, options, bits, max_rows, control);
      const double memory_rate = bench.benchmark_hooks().memory_rate();
      for (const int64_t rows : options.rows) {
        const Timing timing = bench.linear(rows);
        const uint64_t bytes = bench.weight_bytes();
        on_result({index, bits, rows, timing, bytes, bytes + bench.activation_bytes(rows), memory_rate,
                   vendor_seconds[rows]});
      }
    }
  }
  if (!machine.vendor.empty()) {
    constexpr int64_t size = 8192;  // large enough for any device's peak
    GemmBench bench(target, {{size}, size}, options, 16, size, control);
    if (const double seconds = bench.vendor_seconds(size); seconds > 0) {
      machine.vendor_flops = 2.0 * size * size * size / seconds;
    }
  }
  return machine;
}

}  // namespace billfish::bench
