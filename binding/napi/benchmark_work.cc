#include "task.h"

#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "benchmark/attention.h"
#include "benchmark/gemm.h"
#include "convert.h"
#include "model_spec.h"

namespace billfish {
namespace {

using bench::AttentionCase;
using bench::GemmOptions, bench::GemmWeights;

// --- Results as JavaScript takes them.

void set(Napi::Object& object, const char* name, double value) {
  object[name] = Napi::Number::New(object.Env(), value);
}
void set(Napi::Object& object, const char* name, const std::string& value) {
  object[name] = Napi::String::New(object.Env(), value);
}
void set_timing(Napi::Object& object, const bench::Timing& timing) {
  set(object, "median", timing.median);
  set(object, "fastest", timing.fastest);
  set(object, "slowest", timing.slowest);
}

constexpr std::pair<const char*, GemmWeights> weight_names[] = {
    {"4", GemmWeights::int4},  {"8", GemmWeights::int8},      {"16", GemmWeights::bits16},
    {"fp8", GemmWeights::fp8}, {"nvfp4", GemmWeights::nvfp4}, {"mxfp4", GemmWeights::mxfp4},
};

std::string name_of(GemmWeights weights) {
  for (const auto& [name, value] : weight_names) {
    if (value == weights) return name;
  }
  throw Error("INTERNAL", "Weights without a name.");
}

Fill filler(const bench::GemmResult& result) {
  return [result](Napi::Object& object) {
    set(object, "index", static_cast<double>(result.index));
    set(object, "weights", name_of(result.weights));
    set(object, "rows", static_cast<double>(result.rows));
    set_timing(object, result.timing);
    set(object, "weightBytes", static_cast<double>(result.weight_bytes));
    set(object, "movedBytes", static_cast<double>(result.moved_bytes));
    set(object, "memoryRate", result.memory_rate);
    set(object, "vendorSeconds", result.vendor_seconds);
  };
}

Fill filler(const bench::AttentionResult& result) {
  return [result](Napi::Object& object) {
    set(object, "index", static_cast<double>(result.index));
    set_timing(object, result.timing);
    set(object, "cacheBytes", static_cast<double>(result.cache_bytes));
    set(object, "multiplications", result.multiplications);
    set(object, "memoryRate", result.memory_rate);
  };
}

template <class Machine>
Fill machine_filler(const Machine& machine) {
  return [machine](Napi::Object& object) {
    set(object, "name", machine.name);
    set(object, "memoryTraffic", machine.memory_traffic);
    object["timesMeanSomething"] = Napi::Boolean::New(object.Env(), machine.times_are_meaningful);
    if constexpr (std::is_same_v<Machine, bench::GemmMachine>) {
      set(object, "vendor", machine.vendor);
      set(object, "vendorFlops", machine.vendor_flops);
    }
  };
}

// --- The specification.

constexpr int64_t most = 1 << 24;  // rows of a weight, inputs, positions

std::vector<int64_t> integers(const Napi::Object& object, const char* name, int64_t low, int64_t high) {
  const Napi::Array array = to_array(property(object, name), name);
  std::vector<int64_t> values;
  for (uint32_t i = 0; i < array.Length(); ++i) values.push_back(to_integer(array.Get(i), name, low, high));
  if (values.empty()) throw Error("INVALID_OPTION", std::string("Native argument ") + name + " is empty.");
  return values;
}

GemmWeights weights_named(const std::string& wanted) {
  for (const auto& [name, value] : weight_names) {
    if (wanted == name) return value;
  }
  throw Error("INVALID_OPTION", "Native argument weights is '" + wanted + "'.");
}

GemmOptions parse_gemm(const Napi::Object& spec) {
  GemmOptions options;
  const Napi::Array cases = to_array(property(spec, "cases"), "cases");
  for (uint32_t i = 0; i < cases.Length(); ++i) {
    const Napi::Object shape = to_object(cases.Get(i), "cases");
    options.cases.push_back({integers(shape, "outs", 1, most), integer(shape, "in", 1, most)});
  }
  options.rows = integers(spec, "rows", 1, 1 << 20);
  const Napi::Array weights = to_array(property(spec, "weights"), "weights");
  for (uint32_t i = 0; i < weights.Length(); ++i)
    options.weights.push_back(weights_named(to_string(weights.Get(i), "weights")));
  options.group_size = integer(spec, "groupSize", 0, most);
  options.zero_points = to_bool(property(spec, "zeroPoints"), "zeroPoints");
  options.experts = integer(spec, "experts", 0, 4096);
  options.per_token = integer(spec, "perToken", 0, options.experts);
  return options;
}

std::vector<AttentionCase> parse_attention(const Napi::Object& spec) {
  std::vector<AttentionCase> parsed;
  const Napi::Array cases = to_array(property(spec, "cases"), "cases");
  for (uint32_t i = 0; i < cases.Length(); ++i) {
    const Napi::Object object = to_object(cases.Get(i), "cases");
    const auto count = [&](const char* name, int64_t low) {
      return static_cast<int32_t>(integer(object, name, low, most));
    };
    const AttentionCase c{count("heads", 1),     count("kvHeads", 1), count("headDim", 1), count("window", 0),
                          count("sequences", 1), count("past", 0),    count("rows", 1)};
    if (c.heads % c.kv_heads != 0) throw Error("INVALID_OPTION", "heads must be a multiple of kvHeads.");
    if (int64_t{c.sequences} * (int64_t{c.past} + c.rows + 32) > 1 << 28) {
      throw Error("INVALID_OPTION", "sequences x (past + rows) is more than 2^28 positions.");
    }
    parsed.push_back(c);
  }
  return parsed;
}

bench::Target parse_target(const Napi::Object& spec) {
  return {to_string(property(spec, "device"), "device"), parse_number_formats(spec)};
}

}  // namespace

Work gemm_work(const Napi::Object& spec) {
  return [target = parse_target(spec), options = parse_gemm(spec)](const Control& control, const Report& report) {
    return machine_filler(
        bench::measure_gemm(target, options, control, [&](const auto& result) { report(filler(result)); }));
  };
}

Work attention_work(const Napi::Object& spec) {
  return [target = parse_target(spec), cases = parse_attention(spec)](const Control& control, const Report& report) {
    return machine_filler(
        bench::measure_attention(target, cases, control, [&](const auto& result) { report(filler(result)); }));
  };
}

}  // namespace billfish
