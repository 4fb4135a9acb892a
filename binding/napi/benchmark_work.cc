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
using bench::GemmOptions;

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

Fill filler(const bench::GemmResult& result) {
  return [result](Napi::Object& object) {
    set(object, "index", static_cast<double>(result.index));
    set(object, "bits", static_cast<double>(result.bits));
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

GemmOptions parse_gemm(const Napi::Object& spec) {
  GemmOptions options;
  const Napi::Array cases = to_array(property(spec, "cases"), "cases");
  for (uint32_t i = 0; i < cases.Length(); ++i) {
    const Napi::Object shape = to_object(cases.Get(i), "cases");
    options.cases.push_back({integers(shape, "outs", 1, most), integer(shape, "in", 1, most)});
  }
  options.rows = integers(spec, "rows", 1, 1 << 20);
  options.bits = integers(spec, "bits", 4, 16);
  for (const int64_t bits : options.bits) {
    if (bits == 4 || bits == 8 || bits == 16) continue;
    throw Error("INVALID_OPTION", "bits is " + std::to_string(bits) + ", but must be 4, 8 or 16.");
  }
  options.group_size = integer(spec, "groupSize", 0, most);
  options.zero_points = to_bool(property(spec, "zeroPoints"), "zeroPoints");
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
