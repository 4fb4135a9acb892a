// Tunings of the GEMM: their text, where they come from, and what they change. And the choice between the fused kernel
// and panels.
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "engine/error.h"
#include "gemm/planned_linear.h"
#include "panels/linear.h"
#include "platform/gemm_tuning.h"
#include "support/check.h"
#include "tuning/tune.h"
#include "tuning/tuned_machine.h"

using namespace billfish;
using namespace billfish::BILLFISH_TARGET;

namespace {

constexpr GemmMachine a100{108, 18, 1450, 163 * 1024, 164 * 1024, 1230};
constexpr GemmMachine h200{132, 36, 2200, 227 * 1024, 228 * 1024, 2650};

bool chosen(const GemmMachine& machine, int bits, int64_t rows, int64_t out, int64_t in, bool library = true,
            size_t panel = max_panel_bytes) {
  const GemmProblem problem = {bits, 2, false, rows, in, &out, 1};
  return by_panels(machine, problem, plan_gemm(machine, problem), library, panel);
}

std::string refusal(const std::string& text) {
  try {
    parse_tunings(text, "a file");
  } catch (const Error& error) {
    CHECK(error.code() == "INVALID_OPTION");
    return error.what();
  }
  return "none";
}

struct File {
  explicit File(const std::string& text) {
    std::ofstream stream(path);
    stream << text;
  }
  ~File() { std::remove(path.c_str()); }
  const std::string path = std::filesystem::temp_directory_path() / ("billfish-tuning-" + std::to_string(getpid()));
};

}  // namespace

// Unmeasured: from some number of rows on panels, and never back; sooner where the library is faster.
TEST(cuda_tuning_crossovers_are_single) {
  for (const GemmMachine& machine : {a100, h200}) {
    for (const int bits : {4, 8, 16}) {
      for (const auto& [out, in] : {std::pair<int64_t, int64_t>{10240, 8192},
                                    {8192, 8192},
                                    {59392, 8192},
                                    {8192, 29696},
                                    {37888, 3584},
                                    {152064, 8192}}) {
        bool before = false;
        for (int64_t rows = 128; rows <= 8192; rows += 128) {
          const bool now = chosen(machine, bits, rows, out, in);
          CHECK_MESSAGE(now >= before, bits << " bits " << out << " x " << in << " goes back at " << rows << " rows");
          before = now;
        }
        CHECK_MESSAGE(before, bits << " bits " << out << " x " << in << " with 8192 rows");
        CHECK(!chosen(machine, bits, min_panel_rows - 1, out, in));
      }
    }
  }
}

TEST(cuda_tuning_panels_need_a_panel_or_a_library) {
  GemmMachine machine = h200;
  machine.crossover = min_panel_rows;
  CHECK(chosen(machine, 4, 256, 8192, 8192, false));
  CHECK(chosen(machine, 4, 256, 8192, 8192, true));
  CHECK(!chosen(machine, 4, 8192, 8192, 8192, true, 0));
  CHECK(chosen(machine, 16, 256, 8192, 8192, true, 0));
  CHECK(!chosen(machine, 16, 8192, 8192, 8192, false, 0));
  machine.crossover = 300;
  CHECK(!chosen(machine, 4, 299, 8192, 8192));
  CHECK(chosen(machine, 4, 300, 8192, 8192));
  machine.crossover = Crossover::never;
  CHECK(!chosen(machine, 4, 8192, 8192, 8192));
}

TEST(cuda_tuning_survives_being_written_and_read) {
  const GemmTuning one{"NVIDIA H200", 1.25, {{4, 8, 128, 256, 0.5}, {8, 8, 64, 512, 2, true}}, {{8, 8192, 29568, 384}}};
  const GemmTuning other{"emulated Hopper", 1, {}, {{4, 7, 100, Crossover::never}}};
  const std::string table = with_tuning(with_tuning("", "", one), "a text", other);
  CHECK_MESSAGE(table ==
                    "billfish cuda tuning 1\n"
                    "device NVIDIA H200\npanel-factor 1.25\ntile 4 8x128x256 0.5\nbulk-tile 8 8x64x512 2\n"
                    "crossover 8 8192x29568 384\n"
                    "device emulated Hopper\npanel-factor 1\ncrossover 4 7x100 never\n",
                table);
  CHECK(tunings_text(parse_tunings(table, "a text")) == table);
  const auto without_spaces = parse_tunings("# a note\r\n\nbillfish cuda tuning 1 # the format\ndevice  A 1 \r\n", "");
  REQUIRE(without_spaces.size() == 1);
  CHECK(without_spaces[0].device == "A 1");
  const auto replaced = parse_tunings(with_tuning(table, "a text", {"NVIDIA H200", 3, {}, {}}), "a text");
  REQUIRE(replaced.size() == 2);
  CHECK(replaced[1].panel_factor == 3);
  CHECK(replaced[0].device == "emulated Hopper");
}

TEST(cuda_tuning_refuses_text_that_is_no_tuning) {
  const std::string begin = "billfish cuda tuning 1\ndevice A\n";
  for (const auto& [table, why] : {
           std::pair<std::string, std::string>{"", "begins with 'billfish cuda tuning 1'"},
           {"{}", "a file line 1: a CUDA tuning begins with 'billfish cuda tuning 1'"},
           {"billfish cuda tuning 1\npanel-factor 2", "a file line 2: 'panel-factor' before the first device"},
           {"billfish cuda tuning 1\ndevice", "a device without a name"},
           {begin + "device A", "line 3: the device 'A' is there twice"},
           {begin + "tiles 1", "line 3: 'tiles' is none of device, panel-factor, tile, bulk-tile and crossover"},
           {begin + "panel-factor 0", "'0' is no factor"},
           {begin + "panel-factor nan", "'nan' is no factor"},
           {begin + "panel-factor 1 2", "'2' follows the line's end"},
           {begin + "tile 3 8x128x256 1", "'3' bits are none of 4, 8 and 16"},
           {begin + "tile 4 8x128 1", "'8x128' is not a tile such as 8x128x256"},
           {begin + "tile 4 8x128x0 1", "'0' is no size between 1 and"},
           {begin + "tile 4 8x128x256", "the line ends where a factor should be"},
           {begin + "crossover 4 8192x8192 many", "'many' is no row count between 1 and"},
       }) {
    CHECK_MESSAGE(refusal(table).find(why) != std::string::npos, table << ": " << refusal(table));
  }
  const Variable nowhere("BILLFISH_CUDA_TUNING", "/nowhere/tuning.txt");
  CHECK_THROWS(tuning_of("A"), "INVALID_OPTION");
}

// A file changes which tile is taken, and from how many rows on panels are.
TEST(cuda_tuning_of_a_file_changes_the_choice) {
  const Device& device = Device::at(0);
  const int64_t out = 1024, in = 1024;
  const GemmProblem problem = {4, 2, false, 8, in, &out, 1};
  const GemmPlan before = plan_gemm(machine_of(device), problem);
  const TileShape& tile = before.shape;
  const std::string name = device.properties().name;
  const File file("billfish cuda tuning 1\ndevice another\npanel-factor 5\ndevice " + name +
                  (tile.bulk ? "\nbulk-tile 4 " : "\ntile 4 ") + std::to_string(tile.tokens) + "x" +
                  std::to_string(tile.outputs) + "x" + std::to_string(tile.inputs) +
                  " 1000\ncrossover 4 1024x1024 640\n");
  {
    const Variable variable("BILLFISH_CUDA_TUNING", file.path);
    const TunedMachine tuned(device);
    const GemmPlan after = plan_gemm(tuned.machine(), problem);
    CHECK_MESSAGE(after.tile != before.tile, "tile " << after.tile);
    CHECK(!chosen(tuned.machine(), 4, 639, out, in));
    CHECK(chosen(tuned.machine(), 4, 640, out, in));

    const Variable crossover("BILLFISH_CUDA_CROSSOVER", "700");
    const TunedMachine forced(device);
    CHECK(!chosen(forced.machine(), 4, 699, out, in));
    CHECK(chosen(forced.machine(), 4, 700, out, in));
  }
  for (const char* wrong : {"255", "700 rows", "-1", "all"}) {
    const Variable off("BILLFISH_CUDA_TUNING", "off"), crossover("BILLFISH_CUDA_CROSSOVER", wrong);
    CHECK_THROWS(TunedMachine{device}, "INVALID_OPTION");
  }
  const Variable off("BILLFISH_CUDA_TUNING", "off");
  CHECK(plan_gemm(TunedMachine(device).machine(), problem).tile == before.tile);
  CHECK(tuning_path().empty());
}

// The cache folder's is taken where it is, and missed by nobody where it is not.
TEST(cuda_tuning_is_found_in_the_cache_folder) {
  const Variable cache("XDG_CACHE_HOME", "/nowhere");
  CHECK(tuning_path() == "/nowhere/billfish/cuda-tuning.txt");
  CHECK(tuning_of("A").panel_factor == 1);
  CHECK(tuning_of("A").device == "A");
}

// What is measured here means nothing. It is written, read back, and believed.
TEST(cuda_tuning_is_measured_and_used) {
  const Device& device = Device::at(0);
  TuneOptions options;
  options.rows = {8, 256};
  options.shapes = {{4, 128, 64, 32, false}, {8, 64, 128, -1, true}, {16, 64, 64}};
  options.runs = options.launches = 1;
  const TuneReport report = tune(options);
  CHECK(report.tuning.device == device.properties().name);
  CHECK(static_cast<int>(report.tuning.tiles.size()) == tile_count(4) + tile_count(8) + tile_count(16));
  CHECK(report.measurements.size() == 6);
  for (const TuneMeasurement& measured : report.measurements) {
    CHECK(measured.fused > 0);
    if (measured.shape.bits != 16) CHECK((measured.panels > 0) == (measured.rows == 256));
  }

  const File file(with_tuning("", "", report.tuning));
  const Variable variable("BILLFISH_CUDA_TUNING", file.path);
  const TunedMachine tuned(device);
  CHECK(tunings_text({*tuned.machine().tuning}) == tunings_text({report.tuning}));
  const auto measured_with = [&](size_t i) { return report.measurements[i]; };
  for (const size_t i : {size_t{1}, size_t{3}}) {
    const TuneShape& shape = measured_with(i).shape;
    const bool faster = measured_with(i).panels < measured_with(i).fused;
    CHECK(chosen(tuned.machine(), shape.bits, 256, shape.out, shape.in, false) == faster);
    CHECK(chosen(tuned.machine(), shape.bits, 8192, shape.out, shape.in, false) == faster);
  }
  const int64_t out = 128;
  const GemmProblem problem = {4, 2, false, 8, 64, &out, 1};
  const double ratio = plan_tile(tuned.machine(), problem, 1, 4).microseconds /
                       plan_tile(machine_of(device), problem, 1, 4).microseconds;
  CHECK(std::abs(ratio / report.tuning.tiles[1].factor - 1) < 1e-4);  // the text has six digits
}

TEST(cuda_tuning_reports_progress_and_ends_when_it_is_cancelled) {
  TuneOptions options{0, false, {8, 16}, {{4, 64, 64, 32}}, 1, 1};
  std::vector<TuneMeasurement> told;
  int runs = 0;
  options.on_measurement = [&](const TuneMeasurement& measured) { told.push_back(measured); };
  options.before_run = [&] { ++runs; };
  const TuneReport report = tune(options);
  CHECK(told.size() == 2);
  CHECK(report.measurements.size() == 2);
  for (size_t i = 0; i < told.size(); ++i) {
    CHECK(told[i].rows == report.measurements[i].rows);
    CHECK(told[i].fused == report.measurements[i].fused);
  }
  CHECK(runs >= 4);  // a tile with each number of rows, and a run before the one that counts

  const int enough = runs;
  runs = 0;
  told.clear();
  options.before_run = [&] {
    if (++runs == enough) throw Error("ABORTED", "enough");
  };
  CHECK_THROWS(tune(options), "ABORTED");
  CHECK(runs == enough);
  CHECK(told.size() == 1);
}

TEST(cuda_tuning_refuses_to_measure_nonsense) {
  const TuneOptions right{0, false, {8}, {{4, 64, 64, 32}}, 1, 1};
  const auto refused = [&](const std::function<void(TuneOptions&)>& change) {
    TuneOptions options = right;
    change(options);
    CHECK_THROWS(tune(options), "INVALID_OPTION");
  };
  refused([](TuneOptions& o) { o.shapes.clear(); });
  refused([](TuneOptions& o) { o.rows.clear(); });
  refused([](TuneOptions& o) { o.rows = {8, 8}; });
  refused([](TuneOptions& o) { o.rows = {0}; });
  refused([](TuneOptions& o) { o.rows = {8193}; });
  refused([](TuneOptions& o) { o.runs = 0; });
  refused([](TuneOptions& o) { o.shapes[0].bits = 3; });
  refused([](TuneOptions& o) { o.shapes[0].in = 60; });
  refused([](TuneOptions& o) { o.shapes[0].group_size = 48; });
  refused([](TuneOptions& o) { o.shapes[0].out = 0; });
}
