#include "checkpoint/loader.h"

#include <memory>

#include "checkpoint/readers.h"
#include "engine/error.h"
#include "engine/overloaded.h"
#include "engine/random_weights.h"
#include "engine/row_slabs.h"

namespace billfish {
namespace {

uint64_t bytes_of(const std::optional<TensorRef>& tensor) { return tensor ? tensor->bytes : 0; }

// Bytes of the checkpoint that a weight is read from: storedBytes() of src/native/weights.ts, which makes the total.
uint64_t source_bytes(const MatrixSpec& spec) { return spec.weight.bytes + bytes_of(spec.bias); }
uint64_t source_bytes(const QuantizedSpec& spec) {
  return spec.codes.bytes + spec.scales.bytes + bytes_of(spec.zeros) + bytes_of(spec.group_index) + bytes_of(spec.bias);
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

std::unique_ptr<Weight> make_weight(Backend& backend, const VectorSpec& spec, const std::vector<float>& values,
                                    LoadControl& control) {
  auto weight = backend.make_vector(values);
  control.bytes_done += spec.weight.bytes;
  return weight;
}

// From MatrixSource or RandomMatrix.
template <class Source>
std::unique_ptr<Weight> make_weight(Backend& backend, const MatrixSpec& spec, const Source& source,
                                    const std::vector<float>& bias, LoadControl& control) {
  const DType type = spec.weight.dtype;
  auto weight = backend.make_matrix(spec.out, spec.in, type, bias);
  const size_t row_bytes = static_cast<size_t>(spec.in) * byte_size(type);
  fill_in_slabs(spec.out, source_bytes(spec), control, [&](int64_t first, int64_t count) {
    thread_local std::vector<uint8_t> rows;
    rows.resize(count * row_bytes);
    source.read(first, count, rows.data());
    backend.fill_matrix(*weight, first, count, rows.data());
  });
  return weight;
}

std::unique_ptr<Weight> make_weight(Backend& backend, const QuantizedSpec& spec, const CanonicalSource& source,
                                    LoadControl& control) {
  auto weight = backend.make_quantized(source.shape());
  fill_in_slabs(spec.out, source_bytes(spec), control, [&](int64_t first, int64_t count) {
    thread_local CanonicalRows rows;
    source.read(first, count, rows);
    backend.fill_quantized(*weight, rows);
  });
  return weight;
}

std::unique_ptr<Weight> load_weight(Backend& backend, const VectorSpec& spec, const MappedFiles& files,
                                    LoadControl& control) {
  return make_weight(backend, spec, read_vector(spec.weight, spec.length, files), control);
}

std::unique_ptr<Weight> load_weight(Backend& backend, const MatrixSpec& spec, const MappedFiles& files,
                                    LoadControl& control) {
  const MatrixSource source(spec, files);
  auto weight = make_weight(backend, spec, source, source.bias(), control);
  release_source(spec, files);
  return weight;
}

std::unique_ptr<Weight> load_weight(Backend& backend, const QuantizedSpec& spec, const MappedFiles& files,
                                    LoadControl& control) {
  auto weight = make_weight(backend, spec, *open_quantized(spec, files), control);
  release_source(spec, files);
  return weight;
}

std::unique_ptr<Weight> random_weight(Backend& backend, const VectorSpec& spec, LoadControl& control) {
  return make_weight(backend, spec, random_vector(spec.length, 0.9f, 1.1f), control);  // like those of norms
}

std::unique_ptr<Weight> random_weight(Backend& backend, const MatrixSpec& spec, LoadControl& control) {
  const std::vector<float> bias = spec.bias ? random_vector(spec.out, -0.1f, 0.1f) : std::vector<float>();
  return make_weight(backend, spec, RandomMatrix(spec.in, spec.weight.dtype), bias, control);
}

std::unique_ptr<Weight> random_weight(Backend& backend, const QuantizedSpec& spec, LoadControl& control) {
  return make_weight(backend, spec, *random_quantized(canonical_shape(shape_of(WeightSpec(spec)))), control);
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

bool has_order(const QuantizedSpec& spec) {
  return may_be_permuted(spec.group_index.has_value(), spec.part && !spec.part->inputs.empty());
}

}  // namespace

WeightShape shape_of(const WeightSpec& spec) {
  WeightShape shape;
  std::visit(Overloaded{
                 [&](const VectorSpec& s) {
                   shape = {s.name, WeightKind::vector, s.length, 1};
                 },
                 [&](const MatrixSpec& s) {
                   shape = {s.name, WeightKind::matrix, s.out, s.in};
                   shape.has_bias = s.bias.has_value();
                   shape.type = s.weight.dtype;
                 },
                 [&](const QuantizedSpec& s) {
                   shape = {s.name, WeightKind::quantized, s.out, s.in, s.group_size, has_order(s)};
                   shape.bits = s.bits;
                   shape.has_zero_points = !s.symmetric;
                   shape.has_bias = s.bias.has_value();
                   shape.type = s.scales.dtype;
                 },
             },
             spec);
  return shape;
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
