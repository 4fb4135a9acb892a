#include "exports.h"

#include <string>
#include <utility>
#include <vector>

#include "backends.h"
#include "convert.h"
#include "cuda/tuning/tune.h"
#include "platform/gemm_tuning.h"
#include "task.h"

namespace billfish {

namespace {

struct TuneSpec {
  std::string device;
  TuneOptions options;
  std::string table, source;  // a file's contents and name
};

TuneSpec parse_tune(const Napi::Object& spec) {
  constexpr int64_t most = 1 << 24;
  TuneSpec parsed;
  parsed.device = to_string(property(spec, "device"), "device");
  parsed.options.bfloat16 = to_bool(property(spec, "bfloat16"), "bfloat16");
  parsed.options.runs = static_cast<int>(to_integer(property(spec, "runs"), "runs", 1, 1000));
  parsed.options.launches = static_cast<int>(to_integer(property(spec, "launches"), "launches", 1, 1000));
  parsed.options.every_tile = to_bool(property(spec, "everyTile"), "everyTile");
  const Napi::Array rows = to_array(property(spec, "rows"), "rows");
  for (uint32_t i = 0; i < rows.Length(); ++i) {
    parsed.options.rows.push_back(to_integer(rows.Get(i), "rows", 1, most));
  }
  const Napi::Array shapes = to_array(property(spec, "shapes"), "shapes");
  for (uint32_t i = 0; i < shapes.Length(); ++i) {
    const Napi::Object object = to_object(shapes.Get(i), "shapes");
    const auto integer = [&](const char* name, int64_t low) {
      return to_integer(property(object, name), name, low, most);
    };
    const int64_t group = integer("groupSize", 0);  // 0: one group per row
    parsed.options.shapes.push_back({static_cast<int>(integer("bits", 4)), integer("out", 1), integer("in", 1),
                                     group == 0 ? -1 : group, to_bool(property(object, "zeroPoints"), "zeroPoints")});
  }
  parsed.table = to_string(property(spec, "table"), "table");
  parsed.source = to_string(property(spec, "source"), "source");
  return parsed;
}

Napi::Object tile_time(Napi::Env env, const TileTime& tile) {
  Napi::Object object = Napi::Object::New(env);
  object["tokens"] = Napi::Number::New(env, tile.tokens);
  object["outputs"] = Napi::Number::New(env, tile.outputs);
  object["inputs"] = Napi::Number::New(env, tile.inputs);
  object["bulk"] = Napi::Boolean::New(env, tile.bulk);
  object["blocks"] = Napi::Number::New(env, tile.blocks);
  object["microseconds"] = Napi::Number::New(env, tile.microseconds);
  return object;
}

Fill filler(const TuneMeasurement& measured) {
  return [measured](Napi::Object& object) {
    const auto set = [&](const char* name, double value) { object[name] = Napi::Number::New(object.Env(), value); };
    set("bits", measured.shape.bits);
    set("out", static_cast<double>(measured.shape.out));
    set("in", static_cast<double>(measured.shape.in));
    set("rows", static_cast<double>(measured.rows));
    set("fusedMicroseconds", measured.fused);
    if (measured.panels > 0) set("panelMicroseconds", measured.panels);
    if (measured.panels == 0) object["panelMicroseconds"] = object.Env().Null();
    Napi::Array tiles = Napi::Array::New(object.Env(), measured.tiles.size());
    for (uint32_t i = 0; i < measured.tiles.size(); ++i) tiles[i] = tile_time(object.Env(), measured.tiles[i]);
    object["tiles"] = tiles;
  };
}

}  // namespace

// {kind: 'tune', device, bfloat16, runs, launches, everyTile, rows, shapes: [{bits, out, in, groupSize, zeroPoints}],
// table, source}. Results: {bits, out, in, rows, fusedMicroseconds, panelMicroseconds: number | null, tiles: [{tokens,
// outputs, inputs, bulk, blocks, microseconds}]}; at the end {machine, table}.
Work tune_work(const Napi::Object& object) {
  return [spec = parse_tune(object)](const Control& control, const Report& report) -> Fill {
    if (!spec.table.empty()) parse_tunings(spec.table, spec.source);  // before minutes of measuring
    TuneOptions options = spec.options;
    options.on_measurement = [&](const TuneMeasurement& measured) { report(filler(measured)); };
    options.before_run = [&] { control.check(); };
    const GemmTuning tuning = tune_gemm(spec.device, options).tuning;
    return [machine = tuning.device, table = with_tuning(spec.table, spec.source, tuning)](Napi::Object& end) {
      end["machine"] = Napi::String::New(end.Env(), machine);
      end["table"] = Napi::String::New(end.Env(), table);
    };
  };
}

// tuningPath(): where tunings are stored; empty if switched off
static Napi::Value path(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), tuning_path()); }

void init_tune(Napi::Env env, Napi::Object exports) {
  exports["tuningPath"] = Napi::Function::New(env, path, "tuningPath");
}

}  // namespace billfish
