#include "benchmark/gemm.h"

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "engine/random_weights.h"
#include "engine/row_slabs.h"

namespace billfish::bench {
namespace {

StageLimits limits_of(int64_t rows) { return {32, 1, static_cast<int32_t>(rows), 1}; }

// A program with this one call. Its output is a value that no operator computes, so that nothing is allocated to pass
// it on.
Program program_of(const GemmCase& shape, const GemmOptions& options) {
  const int64_t per_row = std::max<int64_t>(options.per_token, 1);  // outputs
  Program program;
  program.values.push_back({shape.in, RowKind::tokens, ValueClass::activation});
  std::vector<LinearTarget> targets;
  for (size_t i = 0; i < shape.outs.size(); ++i) {
    program.values.push_back({per_row * shape.outs[i], RowKind::tokens, ValueClass::activation});
    targets.push_back({static_cast<WeightId>(i), static_cast<ValueId>(i + 1)});
  }
  if (options.experts > 0) {
    const auto routing = static_cast<ValueId>(program.values.size());
    program.values.push_back({2 * options.per_token, RowKind::tokens, ValueClass::logits});
    program.operators.emplace_back(GroupedLinear{0, routing, targets, 0});
  } else {
    program.operators.emplace_back(Linear{0, targets});
  }
  program.output = static_cast<ValueId>(program.values.size());
  program.values.push_back({1, RowKind::logits, ValueClass::logits});
  return program;
}

// `out` of a linear, or of an expert. `type`: of activations.
WeightShape weight_shape(const GemmOptions& options, GemmWeights weights, int64_t out, int64_t in, DType type) {
  WeightShape shape;
  shape.name = "A weight of " + std::to_string(out) + " x " + std::to_string(in);
  shape.kind = weights == GemmWeights::bits16 ? WeightKind::matrix : WeightKind::quantized;
  shape.out = options.experts > 0 ? options.experts * expert_rows(out) : out;
  shape.in = in;
  shape.experts = static_cast<int32_t>(options.experts);
  shape.expert_out = options.experts > 0 ? out : 0;
  shape.type = type;
  if (weights == GemmWeights::bits16) return shape;
  const bool is_fp4 = weights == GemmWeights::nvfp4 || weights == GemmWeights::mxfp4;
  shape.bits = is_fp4 || weights == GemmWeights::int4 ? 4 : 8;
  shape.group_size = options.group_size == 0 ? in : options.group_size;
  shape.has_zero_points = options.zero_points && (weights == GemmWeights::int4 || weights == GemmWeights::int8);
  if (weights == GemmWeights::fp8) shape.codes = CodeType::e4m3;
  if (is_fp4) {
    const bool is_nvfp4 = weights == GemmWeights::nvfp4;
    shape.codes = CodeType::e2m1;
    shape.group_size = is_nvfp4 ? 16 : 32;
    shape.type = is_nvfp4 ? DType::f8_e4m3 : DType::f8_e8m0;
    shape.has_output_scales = is_nvfp4;
  }
  shape.group_size = std::min(shape.group_size, in);
  return shape;
}

std::vector<WeightShape> weight_shapes(const GemmCase& shape, const GemmOptions& options, GemmWeights weights,
                                       DType type) {
  std::vector<WeightShape> shapes;
  for (const int64_t out : shape.outs) shapes.push_back(weight_shape(options, weights, out, shape.in, type));
  return shapes;
}

// For every row `per_token` experts at random, all different, and their weights: the operand of groupedLinear.
std::vector<float> random_routing(int64_t rows, const GemmOptions& options) {
  std::mt19937 random(1);
  std::vector<float> experts(static_cast<size_t>(options.experts)), routing;
  std::iota(experts.begin(), experts.end(), 0.0f);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t j = 0; j < options.per_token; ++j) {
      const auto place = static_cast<size_t>(j);
      std::swap(experts[place], experts[place + random() % (experts.size() - place)]);
      routing.push_back(experts[place]);
    }
    routing.insert(routing.end(), static_cast<size_t>(options.per_token), 1.0f);
  }
  return routing;
}

// One case with weights of one kind, in enough copies to exceed every cache.
class GemmBench {
 public:
  GemmBench(const Target& target, const GemmCase& shape, const GemmOptions& options, GemmWeights weights,
            int64_t max_rows, const Control& control)
      : options_(options),
        bench_(target, program_of(shape, options),
               weight_shapes(shape, options, weights, target.backend.activation_type), limits_of(max_rows), control) {
    do {
      control.check();
      auto& copy = copies_.emplace_back();
      for (const WeightShape& one : weight_shapes(shape, options, weights, target.backend.activation_type)) {
        copy.push_back(one.kind == WeightKind::matrix ? random_matrix(one.out, one.in, one.type)
                                                      : random_weight(canonical_shape(one)));
      }
      weight_bytes_ = bench_.backend().memory().weights / copies_.size();
    } while (copies_.size() < static_cast<size_t>(bench_.copies_exceeding_caches(weight_bytes_)));
    bench_.backend().finish_loading();
    x_ = bench_.random_activations(max_rows, shape.in);
    const int64_t per_row = std::max<int64_t>(options.per_token, 1);
    for (const int64_t out : shape.outs) outs_.push_back(bench_.allocate_activations(max_rows, per_row * out));
    if (options.experts == 0) return;
    choices_ = random_routing(max_rows, options);
    void* const data = bench_.backend().allocate(choices_.size() * sizeof(float), MemoryUse::buffers);
    routing_ = {data, DType::f32, max_rows, 2 * options.per_token, 2 * options.per_token};
    bench_.backend().from_host(choices_.data(), routing_);
  }

  BenchmarkHooks& benchmark_hooks() { return bench_.benchmark_hooks(); }
  uint64_t weight_bytes() const { return weight_bytes_; }
  // Those that so many rows need.
  uint64_t read_weight_bytes(int64_t rows) const {
    if (options_.experts == 0) return weight_bytes_;
    std::vector<bool> is_chosen(static_cast<size_t>(options_.experts));
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t j = 0; j < options_.per_token; ++j) {
        is_chosen[static_cast<size_t>(choices_[static_cast<size_t>(row * 2 * options_.per_token + j)])] = true;
      }
    }
    const auto chosen = static_cast<uint64_t>(std::count(is_chosen.begin(), is_chosen.end(), true));
    return weight_bytes_ / static_cast<uint64_t>(options_.experts) * chosen;
  }
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
      if (options_.experts == 0) {
        bench_.backend().run(Call<Linear>{x, targets});
        return;
      }
      Tensor routing = routing_;
      routing.rows = x.rows;
      bench_.backend().run(Call<GroupedLinear>{x, routing, targets, 0});
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

  const GemmOptions& options_;
  BenchmarkHarness bench_;
  std::vector<std::vector<std::unique_ptr<Weight>>> copies_;  // [copy][target]
  uint64_t weight_bytes_ = 0;
  Tensor x_;
  std::vector<Tensor> outs_;
  std::vector<float> choices_;  // of experts, on the host, and on the device:
  Tensor routing_;
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
    if (!machine.vendor.empty() && options.experts == 0) {
      GemmBench bench(target, as_one(shape), options, GemmWeights::bits16, max_rows, control);
      for (const int64_t rows : options.rows) vendor_seconds[rows] = bench.vendor_seconds(rows);
    }
    for (const GemmWeights weights : options.weights) {
      GemmBench bench(target, shape, options, weights, max_rows, control);
      const double memory_rate = bench.benchmark_hooks().memory_rate();
      for (const int64_t rows : options.rows) {
        const Timing timing = bench.linear(rows);
        on_result({index, weights, rows, timing, bench.weight_bytes(),
                   bench.read_weight_bytes(rows) + bench.activation_bytes(rows), memory_rate, vendor_seconds[rows]});
      }
    }
  }
  if (!machine.vendor.empty()) {
    constexpr int64_t size = 8192;  // large enough for any device's peak
    GemmOptions plain = options;
    plain.experts = plain.per_token = 0;
    GemmBench bench(target, {{size}, size}, plain, GemmWeights::bits16, size, control);
    if (const double seconds = bench.vendor_seconds(size); seconds > 0) {
      machine.vendor_flops = 2.0 * size * size * size / seconds;
    }
  }
  return machine;
}

}  // namespace billfish::bench
