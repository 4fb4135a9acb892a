// The description of a model as TypeScript hands it over (src/native/addon.ts): its stages, their programs and weights.
#pragma once
#include <napi.h>

#include <memory>
#include <string>
#include <vector>

#include "backends.h"
#include "checkpoint/weight_spec.h"
#include "engine/program.h"
#include "engine/stage.h"

namespace billfish {

struct StageSpec {
  std::string device;
  int rank = 0;  // from the number of ranks on: a branch
  Program program;
  std::vector<WeightSpec> weights;
};

struct ModelSpec {
  std::vector<std::string> files;
  // Lists of experts that weights have parts of.
  std::vector<std::shared_ptr<std::vector<LinearSpec>>> experts;
  bool random_weights = false;  // instead of the files'
  // One per rank and branch, stage by stage: each stage begins with rank 0.
  std::vector<StageSpec> stages;
  int tensor_parallel_size = 1;
  BackendOptions backend;
  StageLimits limits;
  int32_t vocabulary = 0;
};

// All of them but parse_operator() throw Error("INVALID_OPTION") for anything that is not as described.

// A linear as src/native/weights.ts describes it, and runs of channels; none where there is no such property.
LinearSpec parse_linear(const Napi::Object& object);
std::vector<ChannelRun> parse_runs(const Napi::Object& object, const char* name);

// In which types it computes: `exact`, `cacheType` and, for what runs, `activationType`.
BackendOptions parse_number_formats(const Napi::Object& object);

// max_rows: the most that maxBatchTokens and maxLogitRows may be.
StageLimits parse_limits(const Napi::Object& object, int64_t max_rows);

// An operator: an object with `op`, its name, and the fields that its declaration (engine/operators.h) lists. Throws
// INTERNAL, naming operator and field, for a name that no operator has and for fields that are missing, of another
// type, or too many: operators come from our own tracer.
Operator parse_operator(const Napi::Object& object);  // operator_parser.cc

// Appends values, operators, ropes and cache layers of a program, or of a slice of it.
void add_to_program(Program& program, const Napi::Object& object);

// What shape_of() makes of the weight's specification, without reading where its tensors lie.
WeightShape parse_weight_shape(const Napi::Object& object);

// A model of which programs, weights and experts are still to be added.
ModelSpec parse_model_spec(const Napi::Object& object);

// The arguments of NativeModel's methods of these names (src/native/addon.ts).
void add_experts(ModelSpec& spec, const Napi::CallbackInfo& info);
void add(ModelSpec& spec, const Napi::CallbackInfo& info);

}  // namespace billfish
