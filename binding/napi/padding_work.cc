#include "task.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "convert.h"
#include "model_spec.h"
#include "padding/compare.h"

namespace billfish {
namespace {

struct PaddingSpec {
  std::vector<std::string> original_files, padded_files;
  std::vector<PaddedLinear> linears;
};

// The file of every tensor is an index into the list that its checkpoint comes with.
void check_file(const std::optional<TensorRef>& tensor, size_t files) {
  if (!tensor || static_cast<size_t>(tensor->file) < files) return;
  throw Error("INVALID_OPTION", "Tensor " + tensor->name + " is in file " + std::to_string(tensor->file) + " of " +
                                    std::to_string(files) + ".");
}

void check_files(const LinearSpec& weight, size_t files) {
  if (const auto* matrix = std::get_if<MatrixSpec>(&weight)) {
    check_file(matrix->weight, files);
    check_file(matrix->bias, files);
  } else {
    const auto* linear = std::get_if<QuantizedSpec>(&weight);
    for (const auto& tensor : {std::optional(linear->codes), std::optional(linear->scales), linear->zeros,
                               linear->group_index, linear->stored_shape, linear->bias}) {
      check_file(tensor, files);
    }
  }
}

std::vector<std::string> strings(const Napi::Object& object, const char* name) {
  const Napi::Array array = to_array(property(object, name), name);
  std::vector<std::string> values;
  for (uint32_t i = 0; i < array.Length(); ++i) values.push_back(to_string(array.Get(i), name));
  return values;
}

PaddingSpec parse_padding(const Napi::Object& object) {
  PaddingSpec spec{strings(object, "originalFiles"), strings(object, "paddedFiles"), {}};
  const Napi::Array linears = to_array(property(object, "linears"), "linears");
  for (uint32_t i = 0; i < linears.Length(); ++i) {
    const Napi::HandleScope scope(object.Env());
    const Napi::Object linear = to_object(linears.Get(i), "linears");
    spec.linears.push_back({parse_linear(to_object(property(linear, "original"), "original")),
                            parse_linear(to_object(property(linear, "padded"), "padded")),
                            parse_runs(linear, "outputs"), parse_runs(linear, "inputs")});
    check_files(spec.linears.back().original, spec.original_files.size());
    check_files(spec.linears.back().padded, spec.padded_files.size());
  }
  return spec;
}

MappedFiles mapped(const std::vector<std::string>& paths) {
  MappedFiles files;
  for (const std::string& path : paths) files.push_back(std::make_shared<MappedFile>(path));
  return files;
}

}  // namespace

// {kind: 'padding', originalFiles, paddedFiles, linears: [{original, padded, outputs?, inputs?}]}. Results: {} for
// every linear that is the same; at the end {difference: string | null}, of the linear after these.
Work padding_work(const Napi::Object& object) {
  return [spec = parse_padding(object)](const Control& control, const Report& report) -> Fill {
    const MappedFiles original = mapped(spec.original_files), padded = mapped(spec.padded_files);
    for (const PaddedLinear& linear : spec.linears) {
      const std::optional<std::string> difference = find_difference(linear, original, padded, control);
      if (difference) {
        return [text = *difference](Napi::Object& end) { end["difference"] = Napi::String::New(end.Env(), text); };
      }
      report([](Napi::Object&) {});
    }
    return [](Napi::Object& end) { end["difference"] = end.Env().Null(); };
  };
}

}  // namespace billfish
