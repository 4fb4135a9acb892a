#include "checkpoint/random_loader.h"

#include <memory>

#include "checkpoint/fill_in_slabs.h"
#include "engine/random_weights.h"

namespace billfish {
namespace {

std::unique_ptr<Weight> make(Backend& backend, const VectorSpec& spec, LoadControl& control) {
  auto weight = backend.make_vector(random_vector(spec.length, 0.9f, 1.1f));  // like those of norms
  control.bytes_done += spec.weight.bytes;
  return weight;
}

std::unique_ptr<Weight> make(Backend& backend, const MatrixSpec& spec, LoadControl& control) {
  const DType type = spec.weight.dtype;
  const std::vector<float> bias = spec.bias ? random_vector(spec.out, -0.1f, 0.1f) : std::vector<float>();
  const RandomMatrix matrix(spec.in, type);
  auto weight = backend.make_matrix(spec.out, spec.in, type, bias);
  fill_in_slabs(spec.out, source_bytes(WeightSpec(spec)), control, [&](int64_t first, int64_t count) {
    thread_local std::vector<uint8_t> rows;
    rows.resize(static_cast<size_t>(count * spec.in) * byte_size(type));
    matrix.read(first, count, rows.data());
    backend.fill_matrix(*weight, first, count, rows.data());
  });
  return weight;
}

std::unique_ptr<Weight> make(Backend& backend, const QuantizedSpec& spec, LoadControl& control) {
  const CanonicalShape shape = canonical_shape(shape_of(WeightSpec(spec)));
  const std::unique_ptr<CanonicalSource> source = random_quantized(shape);
  auto weight = backend.make_quantized(shape);
  fill_in_slabs(spec.out, source_bytes(WeightSpec(spec)), control, [&](int64_t first, int64_t count) {
    thread_local CanonicalRows rows;
    source->read(first, count, rows);
    backend.fill_quantized(*weight, rows);
  });
  return weight;
}

}  // namespace

void load_random_weights(Stage& stage, const std::vector<WeightSpec>& specs, LoadControl& control) {
  for (size_t i = 0; i < specs.size(); ++i) {
    if (control.cancelled) throw Error("ABORTED", "Loading was aborted.");
    stage.set_weight(i, std::visit([&](const auto& spec) { return make(stage.backend(), spec, control); }, specs[i]));
    if (control.on_progress) control.on_progress();
  }
  stage.backend().finish_loading();
}

}  // namespace billfish
