#include "checkpoint/loader.h"

#include <memory>

#include "checkpoint/fill_in_slabs.h"
#include "checkpoint/matrix_source.h"
#include "checkpoint/readers.h"
#include "engine/error.h"
#include "engine/overloaded.h"

namespace billfish {
namespace {

uint64_t bytes_of(const std::optional<TensorRef>& tensor) { return tensor ? tensor->bytes : 0; }

std::unique_ptr<Weight> load_weight(Backend& backend, const VectorSpec& spec, const MappedFiles& files,
                                    LoadControl& control) {
  auto weight = backend.make_vector(read_vector(spec.weight, spec.length, files));
  control.bytes_done += spec.weight.bytes;
  return weight;
}

std::unique_ptr<Weight> load_weight(Backend& backend, const MatrixSpec& spec, const MappedFiles& files,
                                    LoadControl& control) {
  const MatrixSource source(spec, files);
  auto weight = backend.make_matrix(spec.out, spec.in, spec.weight.dtype, source.bias());
  const size_t row_bytes = static_cast<size_t>(spec.in) * byte_size(spec.weight.dtype);
  fill_in_slabs(spec.out, spec.weight.bytes + bytes_of(spec.bias), control, [&](int64_t first, int64_t count) {
    thread_local std::vector<uint8_t> rows;
    rows.resize(count * row_bytes);
    source.read(first, count, rows.data());
    backend.fill_matrix(*weight, first, count, rows.data());
  });
  release_source(spec, files);
  return weight;
}

std::unique_ptr<Weight> load_weight(Backend& backend, const QuantizedSpec& spec, const MappedFiles& files,
                                    LoadControl& control) {
  const std::unique_ptr<CanonicalSource> source = open_quantized(spec, files);
  auto weight = backend.make_quantized(source->shape());
  fill_in_slabs(spec.out, source_bytes(WeightSpec(spec)), control, [&](int64_t first, int64_t count) {
    thread_local CanonicalRows rows;
    source->read(first, count, rows);
    backend.fill_quantized(*weight, rows);
  });
  release_source(spec, files);
  return weight;
}

bool has_order(const QuantizedSpec& spec) {
  return may_be_permuted(spec.group_index.has_value(), spec.part && !spec.part->inputs.empty());
}

void check_pages(const MappedFiles& files) {
  for (const std::shared_ptr<MappedFile>& file : files) file->check_pages();
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

uint64_t source_bytes(const WeightSpec& spec) {
  return std::visit(Overloaded{
                        [](const VectorSpec& s) { return s.weight.bytes; },
                        [](const MatrixSpec& s) { return s.weight.bytes + bytes_of(s.bias); },
                        [](const QuantizedSpec& s) {
                          return s.codes.bytes + s.scales.bytes + bytes_of(s.zeros) + bytes_of(s.group_index) +
                                 bytes_of(s.bias);
                        },
                    },
                    spec);
}

void load_weights(Stage& stage, const std::vector<WeightSpec>& specs, const MappedFiles& files, LoadControl& control) {
  for (size_t i = 0; i < specs.size(); ++i) {
    if (control.cancelled) throw Error("ABORTED", "Loading was aborted.");
    try {
      stage.set_weight(
          i,
          std::visit([&](const auto& spec) { return load_weight(stage.backend(), spec, files, control); }, specs[i]));
    } catch (const Error&) {
      check_pages(files);  // invalid numbers may have been unreadable pages
      throw;
    }
    check_pages(files);
    if (control.on_progress) control.on_progress();
  }
  stage.backend().finish_loading();
}

}  // namespace billfish
