#include "checkpoint/loader.h"

#include <algorithm>
#include <memory>
#include <tuple>

#include "checkpoint/experts_source.h"
#include "checkpoint/readers.h"
#include "checkpoint/tensor_check.h"
#include "engine/error.h"
#include "engine/overloaded.h"
#include "engine/random_weights.h"
#include "engine/row_slabs.h"

namespace billfish {
namespace {

uint64_t bytes_of(const std::optional<TensorRef>& tensor) { return tensor ? tensor->bytes : 0; }

WeightShape shape_of(const VectorSpec& spec) { return {spec.name, WeightKind::vector, spec.length, 1}; }

WeightShape shape_of(const MatrixSpec& spec) {
  WeightShape shape = {spec.name, WeightKind::matrix, spec.out, spec.in};
  shape.has_bias = spec.bias.has_value();
  shape.type = spec.weight.dtype;
  return shape;
}

WeightShape shape_of(const QuantizedSpec& spec) {
  const bool has_order = may_be_permuted(spec.group_index.has_value(), spec.part && !spec.part->inputs.empty());
  WeightShape shape = {spec.name, WeightKind::quantized, spec.out, spec.in, spec.group_size, has_order};
  shape.bits = spec.bits;
  shape.codes = code_type(spec);
  shape.has_zero_points = !spec.symmetric;
  shape.has_bias = spec.bias.has_value();
  shape.type = scale_type(spec.scales.dtype);
  shape.has_output_scales = spec.global_scale.has_value();
  return shape;
}

WeightShape shape_of_linear(const LinearSpec& linear) {
  return std::visit([](const auto& one) { return shape_of(one); }, linear);
}

// Whether some expert's inputs are in an order of their own. Only then are orders kept: natural ones, which GPTQ stores
// as well, would take an expert's inputs times four bytes each.
bool has_own_order(const ExpertsSpec& spec) {
  const auto* const first = std::get_if<QuantizedSpec>(&spec.first);
  if (first == nullptr || (first->part && !first->part->inputs.empty())) return false;
  return std::any_of(spec.experts->begin(), spec.experts->end(), [](const LinearSpec& expert) {
    const auto& own = std::get<QuantizedSpec>(expert);
    return own.group_index.has_value() && own.act_order;
  });
}

WeightShape shape_of(const ExpertsSpec& spec) {
  if (!spec.experts || spec.experts->empty()) refuse("There are no experts '" + spec.name + "'");
  const auto form = [](const WeightShape& s) {
    return std::tuple(s.kind, s.out, s.in, s.group_size, s.bits, s.codes, s.has_bias, s.type, s.has_output_scales);
  };
  const WeightShape first = shape_of_linear(spec.first), stored = shape_of_linear((*spec.experts)[0]);
  bool is_alike = form(shape_of_linear(part_of_expert(spec, 0))) == form(first), has_zero_points = false;
  for (const LinearSpec& expert : *spec.experts) {
    const WeightShape own = shape_of_linear(expert);
    has_zero_points = has_zero_points || own.has_zero_points;
    is_alike = is_alike && form(own) == form(stored);
    if (!is_alike) refuse("Experts '" + stored.name + "' and '" + own.name + "' are not stored in the same way");
  }
  const auto count = static_cast<int32_t>(spec.experts->size());
  return shape_of_experts(spec.name, first, count, has_zero_points, has_own_order(spec));
}

// Bytes of the checkpoint that a weight is read from: storedBytes() of src/native/weights.ts, which makes the total.
uint64_t source_bytes(const MatrixSpec& spec) {
  if (!spec.column) return spec.weight.bytes + bytes_of(spec.bias);
  const auto columns = static_cast<uint64_t>(spec.weight.shape.at(1));
  const auto outputs = static_cast<uint64_t>(spec.part ? spec.part->stored_out : spec.out);
  return columns == 0 ? 0 : spec.weight.bytes / columns * outputs + bytes_of(spec.bias);
}
uint64_t source_bytes(const QuantizedSpec& spec) {
  return spec.codes.bytes + spec.scales.bytes + bytes_of(spec.zeros) + bytes_of(spec.group_index) +
         bytes_of(spec.global_scale) + bytes_of(spec.bias);
}

uint64_t source_bytes(const ExpertsSpec& spec) {
  const bool has_bias = std::visit([](const auto& first) { return first.bias.has_value(); }, spec.first);
  uint64_t bytes = 0;
  for (const LinearSpec& expert : *spec.experts) {
    bytes +=
        std::visit([&](const auto& one) { return source_bytes(one) - (has_bias ? 0 : bytes_of(one.bias)); }, expert);
  }
  return bytes;
}

void check_cancelled(const LoadControl& control) {
  if (control.cancelled.load(std::memory_order_relaxed)) throw Error("ABORTED", "Loading was aborted.");
}

// Calls fill(first, count) for slabs covering all rows of a weight, on all threads; the first error, or an abort, stops
// it. `bytes`: its total contribution to LoadControl::bytes_done.
template <class Fill>
void fill_in_slabs(int64_t rows, uint64_t bytes, LoadControl& control, Fill fill) {
  const auto bytes_before = [&](int64_t row) {
    return bytes * static_cast<uint64_t>(row) / static_cast<uint64_t>(rows);
  };
  for_each_slab(rows, [&](int64_t first, int64_t count) {
    check_cancelled(control);
    fill(first, count);
    control.bytes_done += bytes_before(first + count) - bytes_before(first);  // exact in total
    if (control.on_progress) control.on_progress();
  });
}

std::unique_ptr<Weight> make_vector(Backend& backend, const VectorSpec& spec, const std::vector<float>& values,
                                    LoadControl& control) {
  auto weight = backend.make_vector(values);
  control.bytes_done += spec.weight.bytes;
  return weight;
}

// From MatrixSource, MatrixExperts or RandomMatrix; `bytes`: of the checkpoint.
template <class Source>
std::unique_ptr<Weight> make_matrix(Backend& backend, const WeightShape& shape, uint64_t bytes, const Source& source,
                                    const std::vector<float>& bias, LoadControl& control) {
  auto weight = backend.make_matrix(shape.out, shape.in, shape.type, bias);
  const size_t row_bytes = static_cast<size_t>(shape.in) * byte_size(shape.type);
  fill_in_slabs(shape.out, bytes, control, [&](int64_t first, int64_t count) {
    thread_local std::vector<uint8_t> rows;
    rows.resize(count * row_bytes);
    source.read(first, count, rows.data());
    backend.fill_matrix(*weight, first, count, rows.data());
  });
  return weight;
}

std::unique_ptr<Weight> make_quantized(Backend& backend, uint64_t bytes, const CanonicalSource& source,
                                       LoadControl& control) {
  auto weight = backend.make_quantized(source.shape());
  fill_in_slabs(source.shape().out, bytes, control, [&](int64_t first, int64_t count) {
    thread_local CanonicalRows rows;
    source.read(first, count, rows);
    backend.fill_quantized(*weight, rows);
  });
  return weight;
}

std::unique_ptr<Weight> load_weight(Backend& backend, const VectorSpec& spec, const MappedFiles& files,
                                    LoadControl& control) {
  return make_vector(backend, spec, read_vector(spec, files), control);
}

std::unique_ptr<Weight> load_weight(Backend& backend, const MatrixSpec& spec, const MappedFiles& files,
                                    LoadControl& control) {
  const MatrixSource source(spec, files);
  auto weight = make_matrix(backend, shape_of(spec), source_bytes(spec), source, source.bias(), control);
  release_source(spec, files);
  return weight;
}

std::unique_ptr<Weight> load_weight(Backend& backend, const QuantizedSpec& spec, const MappedFiles& files,
                                    LoadControl& control) {
  auto weight = make_quantized(backend, source_bytes(spec), *open_quantized(spec, files), control);
  release_source(spec, files);
  return weight;
}

std::unique_ptr<Weight> load_weight(Backend& backend, const ExpertsSpec& spec, const MappedFiles& files,
                                    LoadControl& control) {
  const WeightShape shape = shape_of(spec);
  std::unique_ptr<Weight> weight;
  if (shape.kind == WeightKind::quantized) {
    const QuantizedExperts source(spec, canonical_shape(shape), files);
    weight = make_quantized(backend, source_bytes(spec), source, control);
  } else {
    const MatrixExperts source(spec, files);
    weight = make_matrix(backend, shape, source_bytes(spec), source, source.bias(), control);
  }
  for (const LinearSpec& expert : *spec.experts) {
    std::visit([&](const auto& one) { release_source(one, files); }, expert);
  }
  return weight;
}

std::unique_ptr<Weight> random_weight(Backend& backend, const VectorSpec& spec, LoadControl& control) {
  return make_vector(backend, spec, random_vector(spec.length, 0.9f, 1.1f), control);  // like those of norms
}

// A linear, or experts.
template <class Spec>
std::unique_ptr<Weight> random_weight(Backend& backend, const Spec& spec, LoadControl& control) {
  const WeightShape shape = shape_of(spec);
  if (shape.kind == WeightKind::quantized) {
    return make_quantized(backend, source_bytes(spec), *random_quantized(canonical_shape(shape)), control);
  }
  const std::vector<float> bias = shape.has_bias ? random_vector(shape.out, -0.1f, 0.1f) : std::vector<float>();
  return make_matrix(backend, shape, source_bytes(spec), RandomMatrix(shape.in, shape.type), bias, control);
}

// Sets every weight of the stage to make(its spec).
template <class Make>
void set_weights(Stage& stage, const std::vector<WeightSpec>& specs, LoadControl& control, Make make) {
  for (size_t i = 0; i < specs.size(); ++i) {
    check_cancelled(control);
    stage.set_weight(i, std::visit(make, specs[i]));
    if (control.on_progress) control.on_progress();
  }
  stage.backend().finish_loading();
}

}  // namespace

WeightShape shape_of_experts(const std::string& name, const WeightShape& expert, int32_t count, bool has_zero_points,
                             bool has_order) {
  WeightShape shape = expert;
  shape.name = name;
  shape.experts = count;
  shape.expert_out = expert.out;
  shape.out = count * expert_rows(expert.out);
  shape.has_zero_points = has_zero_points;
  shape.has_group_index = has_order;
  return shape;
}

WeightShape shape_of(const WeightSpec& spec) {
  return std::visit([](const auto& one) { return shape_of(one); }, spec);
}

void load_weights(Stage& stage, const std::vector<WeightSpec>& specs, const MappedFiles& files, LoadControl& control) {
  set_weights(stage, specs, control, [&](const auto& spec) {
    try {
      auto weight = load_weight(stage.backend(), spec, files, control);
      check_pages(files);
      return weight;
    } catch (const Error&) {
      check_pages(files);  // invalid numbers may have been unreadable pages
      throw;
    }
  });
}

void load_random_weights(Stage& stage, const std::vector<WeightSpec>& specs, LoadControl& control) {
  set_weights(stage, specs, control, [&](const auto& spec) { return random_weight(stage.backend(), spec, control); });
}

}  // namespace billfish
