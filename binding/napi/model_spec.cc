#include "model_spec.h"

#include <map>
#include <utility>

#include "checkpoint/loader.h"
#include "convert.h"

namespace billfish {
namespace {

constexpr int64_t safe_max = (int64_t{1} << 53) - 1;

int32_t id(const Napi::Object& object, const char* name) {
  return static_cast<int32_t>(integer(object, name, 0, int32_max));
}
std::string string(const Napi::Object& object, const char* name) { return to_string(property(object, name), name); }

// Calls each(element object) for every element of the array.
template <class Each>
void for_each_object(const Napi::Array& array, const char* name, Each each) {
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::HandleScope scope(array.Env());
    each(to_object(array.Get(i), name));
  }
}

// Of the array property.
template <class Each>
void for_each_object(const Napi::Object& object, const char* name, Each each) {
  for_each_object(to_array(property(object, name), name), name, each);
}

template <class Result>
Result choose(const std::map<std::string, Result>& choices, const std::string& value, const char* name) {
  const auto found = choices.find(value);
  if (found == choices.end())
    throw Error("INVALID_OPTION", std::string("Native argument ") + name + " is '" + value + "'.");
  return found->second;
}

DType parse_dtype(const std::string& text) {
  static const std::map<std::string, DType> types = {
      {"F32", DType::f32}, {"F16", DType::f16},         {"BF16", DType::bf16},
      {"I32", DType::i32}, {"I64", DType::i64},         {"U8", DType::u8},
      {"I8", DType::i8},   {"F8_E4M3", DType::f8_e4m3}, {"F8_E8M0", DType::f8_e8m0}};
  return choose(types, text, "dtype");
}

// --- Weights.

TensorRef parse_tensor(const Napi::Object& object) {
  TensorRef tensor;
  tensor.name = string(object, "name");
  tensor.file = id(object, "file");
  tensor.dtype = parse_dtype(string(object, "dtype"));
  const Napi::Array shape = to_array(property(object, "shape"), "shape");
  for (uint32_t i = 0; i < shape.Length(); ++i) tensor.shape.push_back(to_integer(shape.Get(i), "shape", 0, safe_max));
  tensor.offset = static_cast<uint64_t>(integer(object, "offset", 0, safe_max));
  tensor.bytes = static_cast<uint64_t>(integer(object, "bytes", 0, safe_max));
  return tensor;
}

TensorRef tensor(const Napi::Object& object, const char* name) {
  return parse_tensor(to_object(property(object, name), name));
}

std::optional<TensorRef> optional_tensor(const Napi::Object& object, const char* name) {
  if (!has(object, name)) return std::nullopt;
  return tensor(object, name);
}

}  // namespace

std::vector<ChannelRun> parse_runs(const Napi::Object& object, const char* name) {
  std::vector<ChannelRun> runs;
  if (!has(object, name)) return runs;
  for_each_object(object, name, [&](const Napi::Object& run) {
    runs.push_back({integer(run, "start", ChannelRun::zeros, int32_max), integer(run, "count", 0, int32_max)});
  });
  return runs;
}

namespace {

std::optional<Part> optional_part(const Napi::Object& object) {
  if (!has(object, "part")) return std::nullopt;
  const Napi::Object o = to_object(property(object, "part"), "part");
  Part part;
  part.stored_out = integer(o, "storedOut", 1, int32_max);
  part.stored_in = integer(o, "storedIn", 1, int32_max);
  if (has(o, "storedGroupSize")) part.stored_group_size = integer(o, "storedGroupSize", 1, int32_max);
  part.outputs = parse_runs(o, "outputs");
  part.inputs = parse_runs(o, "inputs");
  part.inputs_in_group_order = to_bool(property(o, "inputsInGroupOrder"), "inputsInGroupOrder");
  part.follows = optional_tensor(o, "follows");
  if (part.follows) part.followed_group_size = integer(o, "followedGroupSize", 1, int32_max);
  return part;
}

[[noreturn]] void refuse_kind(const std::string& name, const std::string& kind) {
  throw Error("INVALID_OPTION", "Weight " + name + " is of unknown kind '" + kind + "'.");
}

bool is_part_along_inputs(const Napi::Object& object) {
  return has(object, "part") && has(to_object(property(object, "part"), "part"), "inputs");
}

}  // namespace

LinearSpec parse_linear(const Napi::Object& object) {
  const std::string kind = string(object, "kind");
  const std::string name = string(object, "name");
  if (kind == "matrix") {
    MatrixSpec spec{name,
                    integer(object, "out", 1, int32_max),
                    integer(object, "in", 1, int32_max),
                    tensor(object, "weight"),
                    optional_tensor(object, "bias"),
                    optional_part(object),
                    {}};
    if (has(object, "column")) spec.column = integer(object, "column", 0, int32_max);
    return spec;
  }
  if (kind != "quantized") refuse_kind(name, kind);
  QuantizedSpec spec;
  spec.name = name;
  spec.format = choose<Format>({{"gptq", Format::gptq},
                                {"awq", Format::awq},
                                {"awq-gemv", Format::awq_gemv},
                                {"compressed-tensors", Format::compressed_tensors},
                                {"fp8", Format::fp8},
                                {"fp4", Format::fp4}},
                               string(object, "format"), "format");
  spec.bits = static_cast<int>(integer(object, "bits", 4, 8));
  spec.out = integer(object, "out", 1, int32_max);
  spec.in = integer(object, "in", 1, int32_max);
  spec.group_size = integer(object, "groupSize", 1, int32_max);
  if (has(object, "scaleRows")) spec.scale_rows = integer(object, "scaleRows", 1, int32_max);
  spec.symmetric = to_bool(property(object, "symmetric"), "symmetric");
  spec.zero_offset = static_cast<int>(integer(object, "zeroOffset", 0, 1));
  spec.codes = tensor(object, "codes");
  spec.scales = tensor(object, "scales");
  spec.zeros = optional_tensor(object, "zeros");
  spec.group_index = optional_tensor(object, "groupIndex");
  if (has(object, "actOrder")) spec.act_order = to_bool(property(object, "actOrder"), "actOrder");
  spec.stored_shape = optional_tensor(object, "storedShape");
  spec.global_scale = optional_tensor(object, "globalScale");
  if (spec.global_scale)
    spec.global_scale_divides = to_bool(property(object, "globalScaleDivides"), "globalScaleDivides");
  spec.bias = optional_tensor(object, "bias");
  spec.part = optional_part(object);
  return spec;
}

namespace {

ExpertList list_of(const ModelSpec& spec, const Napi::Object& weight, const char* name) {
  if (!has(weight, name)) return nullptr;
  const int64_t most = static_cast<int64_t>(spec.experts.size()) - 1;
  return spec.experts[static_cast<size_t>(integer(weight, name, 0, most))];
}

WeightSpec parse_weight(const Napi::Object& object, const ModelSpec& model) {
  const std::string kind = string(object, "kind");
  const std::string name = string(object, "name");
  if (kind == "vector") {
    VectorSpec spec;
    spec.name = name;
    spec.length = integer(object, "length", 1, int32_max);
    spec.weight = tensor(object, "weight");
    if (has(object, "offset")) spec.offset = number(object, "offset");
    spec.elements = parse_runs(object, "elements");
    return spec;
  }
  if (kind != "experts") return std::visit([](auto&& spec) { return WeightSpec(spec); }, parse_linear(object));
  return ExpertsSpec{name, parse_linear(to_object(property(object, "first"), "first")),
                     list_of(model, object, "experts"), list_of(model, object, "consumers")};
}

}  // namespace

namespace {

// --- Programs.

Value parse_value(const Napi::Object& object) {
  Value value;
  value.width = integer(object, "width", 1, int32_max);
  static const std::map<std::string, RowKind> kinds = {{"tokens", RowKind::tokens}, {"logits", RowKind::logits}};
  static const std::map<std::string, ValueClass> classes = {
      {"activation", ValueClass::activation}, {"residual", ValueClass::residual}, {"logits", ValueClass::logits}};
  value.rows = choose(kinds, string(object, "rows"), "rows");
  value.kind = choose(classes, string(object, "class"), "class");
  if (has(object, "view")) {
    const Napi::Object view = to_object(property(object, "view"), "view");
    value.view_of = id(view, "of");
    value.view_start = integer(view, "start", 0, int32_max);
  }
  return value;
}

}  // namespace

void add_to_program(Program& program, const Napi::Object& object) {
  for_each_object(object, "values", [&](const Napi::Object& o) { program.values.push_back(parse_value(o)); });
  for_each_object(object, "ropes", [&](const Napi::Object& o) {
    program.ropes.push_back({to_floats(property(o, "inverseFrequency"), "inverseFrequency"), number(o, "scale")});
  });
  for_each_object(object, "cacheLayers", [&](const Napi::Object& o) {
    program.cache_layers.push_back({id(o, "kvHeads"), id(o, "headDim")});
  });
  for_each_object(object, "stateLayers", [&](const Napi::Object& o) {
    program.state_layers.push_back({integer(o, "width", 1, int64_t{1} << 40)});
  });
  for_each_object(object, "operators", [&](const Napi::Object& o) { program.operators.push_back(parse_operator(o)); });
  if (has(object, "input")) program.input = id(object, "input");
  if (has(object, "output")) program.output = id(object, "output");
  program.hands_over = to_bool(property(object, "handsOver"), "handsOver");
}

WeightShape parse_weight_shape(const Napi::Object& object) {
  const std::string kind = string(object, "kind"), name = string(object, "name");
  if (kind == "experts") {  // all of one shape, as src/models/experts.ts has checked
    const Napi::Array experts = to_array(property(object, "experts"), "experts");
    const WeightShape first = parse_weight_shape(to_object(property(object, "first"), "first"));
    const bool has_zero_points = to_bool(property(object, "hasZeroPoints"), "hasZeroPoints");
    const bool has_order = to_bool(property(object, "hasOrder"), "hasOrder");
    return shape_of_experts(name, first, static_cast<int32_t>(experts.Length()), has_zero_points, has_order);
  }
  if (kind == "vector") return {name, WeightKind::vector, integer(object, "length", 1, int32_max), 1};
  const int64_t out = integer(object, "out", 1, int32_max), in = integer(object, "in", 1, int32_max);
  const auto type_of = [&](const char* tensor) {
    return parse_dtype(string(to_object(property(object, tensor), tensor), "dtype"));
  };
  WeightShape shape;
  if (kind == "matrix") {
    shape = {name, WeightKind::matrix, out, in};
    shape.type = type_of("weight");
  } else if (kind == "quantized") {
    const bool has_order = may_be_permuted(has(object, "groupIndex"), is_part_along_inputs(object));
    shape = {name, WeightKind::quantized, out, in, integer(object, "groupSize", 1, int32_max), has_order};
    shape.bits = static_cast<int>(integer(object, "bits", 4, 8));
    shape.has_zero_points = !to_bool(property(object, "symmetric"), "symmetric");
    shape.type = scale_type(type_of("scales"));
    shape.has_output_scales = has(object, "globalScale");
    shape.codes = code_type(type_of("codes"));
  } else {
    refuse_kind(name, kind);
  }
  shape.has_bias = has(object, "bias");
  return shape;
}

StageLimits parse_limits(const Napi::Object& object, int64_t max_rows) {
  StageLimits limits;
  limits.block_size = static_cast<int32_t>(integer(object, "blockSize", 1, 4096));
  limits.block_count = static_cast<int32_t>(integer(object, "blockCount", 1, int32_max));
  limits.max_rows = static_cast<int32_t>(integer(object, "maxBatchTokens", 1, max_rows));
  limits.max_logit_rows = static_cast<int32_t>(integer(object, "maxLogitRows", 1, max_rows));
  limits.max_sequences = static_cast<int32_t>(integer(object, "maxSequences", 1, 1 << 24));
  return limits;
}

BackendOptions parse_number_formats(const Napi::Object& object) {
  BackendOptions options;
  options.exact = to_bool(property(object, "exact"), "exact");
  options.cache_type = parse_dtype(string(object, "cacheType"));
  if (has(object, "activationType")) options.activation_type = parse_dtype(string(object, "activationType"));
  return options;
}

// Every stage has all its ranks in order, and then its branches.
static void check_ranks(const ModelSpec& spec) {
  int next = 0;
  for (size_t i = 0; i <= spec.stages.size(); ++i) {
    const int rank = i < spec.stages.size() ? spec.stages[i].rank : 0;
    const bool begins_stage = rank == 0 && (i == 0 || next >= spec.tensor_parallel_size);
    if (!begins_stage && (rank != next || i == 0)) {
      throw Error("INVALID_OPTION", "Every stage needs a program for each of its ranks, in order.");
    }
    next = rank + 1;
  }
}

ModelSpec parse_model_spec(const Napi::Object& object) {
  ModelSpec spec;
  const Napi::Array files = to_array(property(object, "files"), "files");
  for (uint32_t i = 0; i < files.Length(); ++i) spec.files.push_back(to_string(files.Get(i), "files"));
  spec.random_weights = has(object, "randomWeights") && to_bool(property(object, "randomWeights"), "randomWeights");
  for_each_object(object, "stages", [&](const Napi::Object& o) {
    StageSpec stage;
    stage.device = string(o, "device");
    stage.rank = id(o, "rank");
    spec.stages.push_back(std::move(stage));
  });
  if (spec.stages.empty()) throw Error("INVALID_OPTION", "A model needs at least one stage.");
  spec.tensor_parallel_size = static_cast<int>(integer(object, "tensorParallelSize", 1, 64));
  check_ranks(spec);
  spec.backend = parse_number_formats(object);
  if (has(object, "offloadDirectory")) spec.backend.offload_directory = string(object, "offloadDirectory");
  spec.limits = parse_limits(object, 1 << 20);
  spec.vocabulary = static_cast<int32_t>(integer(object, "vocabulary", 1, int32_max));
  return spec;
}

void add_experts(ModelSpec& spec, const Napi::CallbackInfo& info) {
  const auto count = static_cast<int64_t>(spec.experts.size());
  const auto number = static_cast<size_t>(to_integer(info[0], "list", 0, count));
  if (number == spec.experts.size()) spec.experts.push_back(std::make_shared<std::vector<LinearSpec>>());
  for_each_object(to_array(info[1], "experts"), "experts",
                  [&](const Napi::Object& expert) { spec.experts[number]->push_back(parse_linear(expert)); });
}

void add(ModelSpec& spec, const Napi::CallbackInfo& info) {
  const auto count = static_cast<int64_t>(spec.stages.size());
  StageSpec& stage = spec.stages[static_cast<size_t>(to_integer(info[0], "stage", 0, count - 1))];
  add_to_program(stage.program, to_object(info[1], "program"));
  for_each_object(to_array(info[2], "weights"), "weights",
                  [&](const Napi::Object& weight) { stage.weights.push_back(parse_weight(weight, spec)); });
}

}  // namespace billfish
