#include "step_request.h"

#include <algorithm>
#include <cstring>

#include "convert.h"
#include "grammar.h"

namespace billfish {
namespace {

std::vector<int32_t> optional_int32s(const Napi::Object& object, const char* name) {
  return has(object, name) ? to_int32s(property(object, name), name) : std::vector<int32_t>();
}

SamplingRequest parse_sampling(const Napi::Object& object) {
  SamplingRequest request;
  SamplingParameters& p = request.parameters;
  p.temperature = number(object, "temperature");
  p.top_k = static_cast<int32_t>(integer(object, "topK", 0, int32_max));
  p.top_p = number(object, "topP");
  p.min_p = number(object, "minP");
  p.repetition_penalty = number(object, "repetitionPenalty");
  p.presence_penalty = number(object, "presencePenalty");
  p.frequency_penalty = number(object, "frequencyPenalty");
  const Napi::Array seed = to_array(property(object, "seed"), "seed");
  const auto half = [&](uint32_t i) { return static_cast<uint64_t>(to_integer(seed.Get(i), "seed", 0, 0xffffffff)); };
  p.seed = half(0) | half(1) << 32;
  p.step = static_cast<uint64_t>(integer(object, "step", 0, int64_t{1} << 52));
  p.logprobs = static_cast<int32_t>(integer(object, "logprobs", -1, 1 << 20));
  if (has(object, "biasTokens")) {
    const std::vector<int32_t> tokens = to_int32s(property(object, "biasTokens"), "biasTokens");
    const std::vector<float> values = to_floats(property(object, "biasValues"), "biasValues");
    if (tokens.size() != values.size()) throw Error("INVALID_OPTION", "biasTokens and biasValues differ in length.");
    for (size_t i = 0; i < tokens.size(); ++i) request.bias.push_back({tokens[i], values[i]});
  }
  request.prompt = optional_int32s(object, "promptTokens");
  request.generated = optional_int32s(object, "generatedTokens");
  request.banned = optional_int32s(object, "bannedTokens");
  if (has(object, "matcher")) request.constraint = to_matcher(property(object, "matcher"), "matcher");
  return request;
}

// A request's spans point into its own vectors, so they are set once the request no longer moves.
void bind(SamplingRequest& request) {
  request.parameters.prompt = request.prompt;
  request.parameters.generated = request.generated;
  request.parameters.banned = request.banned;
  request.parameters.bias = request.bias;
}

Napi::Float32Array float_array(Napi::Env env, const std::vector<float>& values) {
  Napi::Float32Array array = Napi::Float32Array::New(env, values.size());
  if (!values.empty()) std::memcpy(array.Data(), values.data(), values.size() * sizeof(float));
  return array;
}

Napi::Object sampled_object(Napi::Env env, const Sampled& sampled) {
  Napi::Object object = Napi::Object::New(env);
  object["token"] = Napi::Number::New(env, sampled.token);
  object["logprob"] = Napi::Number::New(env, sampled.logprob);
  Napi::Array alternatives = Napi::Array::New(env, sampled.alternatives.size());
  for (uint32_t i = 0; i < sampled.alternatives.size(); ++i) {
    Napi::Object alternative = Napi::Object::New(env);
    alternative["token"] = Napi::Number::New(env, sampled.alternatives[i].token);
    alternative["logprob"] = Napi::Number::New(env, sampled.alternatives[i].logprob);
    alternatives[i] = alternative;
  }
  object["alternatives"] = alternatives;
  return object;
}

}  // namespace

std::shared_ptr<Step> parse_step(const Napi::Object& request) {
  auto step = std::make_shared<Step>();
  Batch& batch = step->batch;
  batch.tokens = to_int32s(property(request, "tokens"), "tokens");
  batch.positions = to_int32s(property(request, "positions"), "positions");
  batch.block_tables = to_int32s(property(request, "blockTables"), "blockTables");
  batch.logit_rows = to_int32s(property(request, "logitRows"), "logitRows");
  step->want_logits = to_bool(property(request, "wantLogits"), "wantLogits");
  step->want_hidden_states = to_bool(property(request, "wantHiddenStates"), "wantHiddenStates");
  step->search = to_bool(property(request, "search"), "search");

  const std::vector<int32_t> sequences = to_int32s(property(request, "sequences"), "sequences");
  const std::vector<double> bases = to_doubles(property(request, "ropeBases"), "ropeBases");
  if (sequences.size() % 6 != 0 || bases.size() != sequences.size() / 6) {
    throw Error("INVALID_OPTION", "sequences must hold six numbers, and ropeBases one, for every sequence.");
  }
  for (size_t i = 0; i < bases.size(); ++i) {
    const int32_t* s = &sequences[6 * i];  // first row, rows, past, first block entry, block entries, slot
    const int64_t entries = static_cast<int64_t>(batch.block_tables.size());
    if (s[3] < 0 || s[4] < 0 || static_cast<int64_t>(s[3]) + s[4] > entries) {
      throw Error("INVALID_OPTION", "sequence " + std::to_string(i) + " reaches outside blockTables.");
    }
    batch.sequences.push_back({s[0], s[1], s[2], batch.block_tables.data() + s[3], s[4], bases[i], s[5]});
  }

  const Napi::Array sampling = to_array(property(request, "sampling"), "sampling");
  step->sampling.resize(sampling.Length());
  for (uint32_t i = 0; i < sampling.Length(); ++i) {
    const Napi::Value entry = sampling.Get(i);
    if (entry.IsNull()) continue;
    step->sampling[i] = parse_sampling(to_object(entry, "sampling"));
    bind(*step->sampling[i]);
  }
  return step;
}

Napi::Object step_output(Napi::Env env, Step& step) {
  StepResult& result = step.result;
  Napi::Object output = Napi::Object::New(env);
  Napi::Array samples = Napi::Array::New(env, result.samples.size());
  for (uint32_t i = 0; i < result.samples.size(); ++i) samples[i] = sampled_object(env, result.samples[i]);
  output["samples"] = samples;
  Napi::Array non_finite = Napi::Array::New(env, result.non_finite_rows.size());
  for (uint32_t i = 0; i < result.non_finite_rows.size(); ++i) non_finite[i] = result.non_finite_rows[i];
  output["nonFiniteRows"] = non_finite;
  if (step.want_logits) output["logits"] = float_array(env, result.logits);
  if (step.want_hidden_states) {
    Napi::Array states = Napi::Array::New(env, result.hidden_states.size());
    for (uint32_t i = 0; i < result.hidden_states.size(); ++i) states[i] = float_array(env, result.hidden_states[i]);
    output["hiddenStates"] = states;
  }
  Napi::Float64Array stages = Napi::Float64Array::New(env, result.stages.size() * 2);
  for (size_t i = 0; i < result.stages.size(); ++i) {
    stages[2 * i] = result.stages[i].begin;
    stages[2 * i + 1] = result.stages[i].end;
  }
  output["stages"] = stages;
  Napi::Array notices = Napi::Array::New(env, result.notices.size());
  for (uint32_t i = 0; i < result.notices.size(); ++i) notices[i] = Napi::String::New(env, result.notices[i]);
  output["notices"] = notices;
  return output;
}

}  // namespace billfish
