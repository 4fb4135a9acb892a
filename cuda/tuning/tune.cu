#include "tuning/tune.h"

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "engine/error.h"
#include "gemm/layout.h"
#include "gemm/planned_linear.h"
#include "panels/linear.h"
#include "primitives/numbers.h"
#include "runtime/libraries.h"
#include "runtime/memory.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

namespace {

[[noreturn]] void refuse(const std::string& why) { throw Error("INVALID_OPTION", "Tuning: " + why + "."); }

void check_options(const TuneOptions& options) {
  if (options.shapes.empty()) refuse("there is no shape to measure");
  if (options.rows.empty()) refuse("there is no number of rows to measure with");
  for (size_t i = 0; i < options.rows.size(); ++i) {
    if (options.rows[i] <= (i == 0 ? 0 : options.rows[i - 1])) refuse("numbers of rows must be positive and ascend");
    if (options.rows[i] > 8192) refuse(std::to_string(options.rows[i]) + " rows are more than 8192");
  }
  if (options.runs < 1 || options.launches < 1) refuse("runs and launches must be at least 1");
  for (const TuneShape& shape : options.shapes) {
    const std::string name = std::to_string(shape.out) + " x " + std::to_string(shape.in);
    if (shape.bits != 4 && shape.bits != 8 && shape.bits != 16) {
      refuse(name + " has " + std::to_string(shape.bits) + " bits; they must be 4, 8 or 16");
    }
    if (shape.out < 1 || shape.in < 8 || shape.in % 8 != 0) {
      refuse(name + ": outputs must be at least 1, and inputs a multiple of 8");
    }
    if (shape.bits != 16 && shape.group_size != -1 &&
        (shape.group_size < 1 || shape.group_size % scale_block_inputs(2) != 0)) {
      refuse(name + " has groups of " + std::to_string(shape.group_size) + "; they must be multiples of " +
             std::to_string(scale_block_inputs(2)) + ", or -1");
    }
  }
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Enough copies of a weight that none is cached when it is used again. Their contents do not matter.
struct Copies {
  Copies(Stream& stream, const TuneShape& shape, DType element) {
    CanonicalShape canonical;
    canonical.name = "a linear to measure";
    canonical.bits = shape.bits;
    canonical.out = shape.out, canonical.in = shape.in;
    canonical.group_size = shape.group_size == -1 ? shape.in : shape.group_size;
    canonical.has_zero_points = shape.zero_points;
    canonical.scale_type = element;
    const size_t bytes = shape.bits == 16 ? matrix_bytes(shape.out, shape.in, false) : quantized_bytes(canonical);
    Device& device = stream.device();
    const size_t count = std::max<size_t>(2, 3 * device.properties().l2_bytes / bytes + 1);
    for (size_t i = 0; i < count; ++i) {
      blocks.emplace_back(device, bytes);
      void* const block = blocks.back().data();
      stream.fill(block, small_byte(element), bytes);
      weights.push_back(shape.bits == 16 ? lay_out_matrix(stream, shape.out, shape.in, element, {}, block)
                                         : lay_out_quantized(stream, canonical, block));
    }
  }
  // The byte repeated is a number around 0.01; as a code it is arbitrary.
  static uint8_t small_byte(DType element) { return element == DType::f16 ? 0x21 : 0x3c; }

  std::vector<DeviceMemory> blocks;
  std::vector<LinearWeight> weights;
};

class Tuner {
 public:
  explicit Tuner(const TuneOptions& options)
      : options_(options),
        device_(Device::at(options.device)),
        stream_(device_),
        machine_(machine_of(device_)),
        element_(options.bfloat16 ? DType::bf16 : DType::f16) {
    report_.tuning.device = device_.properties().name;
  }

  TuneReport run() {
    for (const TuneShape& shape : options_.shapes) {
      options_.bfloat16 ? measure<bfloat16>(shape) : measure<half>(shape);
    }
    write_factors();
    return std::move(report_);
  }

 private:
  // All measurements of a shape.
  template <class Element>
  void measure(const TuneShape& shape) {
    const Copies copies(stream_, shape, element_);
    const int64_t max_rows = options_.rows.back();
    const DeviceMemory x(device_, static_cast<size_t>(max_rows * shape.in) * sizeof(Element));
    const DeviceMemory y(device_, static_cast<size_t>(max_rows * shape.out) * sizeof(Element));
    stream_.fill(x.data(), Copies::small_byte(element_), x.bytes());

    const size_t panel = shape.bits == 16 ? 0 : panel_bytes(shape.out, shape.in, max_rows);
    const size_t bytes = linear_workspace_bytes({max_rows, 0, panel});
    const DeviceMemory scratch(device_, bytes);
    stream_.fill(scratch.data(), 0, bytes);
    LinearWorkspace workspace{scratch.data(), bytes, panel, nullptr, &machine_};
    const std::unique_ptr<MatrixLibrary> library = open_matrix_library(stream_, library_workspace(workspace));
    workspace.library = library.get();

    const size_t first = report_.measurements.size();
    for (const int64_t rows : options_.rows) {
      const Matrix<const Element> input{x.as<Element>(), rows, shape.in, shape.in};
      LinearCall call{&copies.weights[0], y.data(), shape.out, element_};
      int64_t outputs;
      const GemmProblem problem = problem_of(&call, 1, rows, &outputs);
      const auto time_of = [&](const std::function<void()>& queue) {
        return microseconds([&](size_t turn) {
          call.weight = &copies.weights[turn % copies.weights.size()];
          queue();
        });
      };
      TuneMeasurement measured{shape, rows, 0, 0};
      for (const GemmPlan& plan : plans_to_measure(problem)) {
        const double time = time_of([&] { planned_linear<Element>(stream_, &call, 1, input, workspace, plan); });
        tile_samples_[{shape.bits, plan.tile}].push_back(time / plan.microseconds);
        const TileShape& tile = plan.shape;
        measured.tiles.push_back({tile.tokens, tile.outputs, tile.inputs, tile.bulk, plan.blocks, time});
      }
      std::sort(measured.tiles.begin(), measured.tiles.end(),
                [](const TileTime& a, const TileTime& b) { return a.microseconds < b.microseconds; });
      measured.fused = measured.tiles.front().microseconds;
      if (rows >= min_panel_rows && (shape.bits == 16 ? library != nullptr : panel > 0)) {
        measured.panels = time_of([&] { linear_by_panels<Element>(stream_, &call, 1, input, workspace, machine_); });
        if (shape.bits != 16) {
          panel_samples_.push_back(measured.panels / panel_time(machine_, problem, library != nullptr, panel));
        }
      }
      report_.measurements.push_back(measured);
      if (options_.on_measurement) options_.on_measurement(measured);
    }
    write_crossover(shape, first);
  }

  // The best plan for every tile; of those, unless every tile is requested, the three expected to be fastest.
  std::vector<GemmPlan> plans_to_measure(const GemmProblem& problem) const {
    std::vector<GemmPlan> plans;
    for (int tile = 0; tile < tile_count(problem.bits); ++tile) {
      const GemmPlan plan = best_plan_of_tile(machine_, problem, tile);
      if (plan.stages > 0) plans.push_back(plan);
    }
    if (options_.every_tile) return plans;
    std::sort(plans.begin(), plans.end(),
              [](const GemmPlan& a, const GemmPlan& b) { return a.microseconds < b.microseconds; });
    plans.resize(std::min<size_t>(plans.size(), 3));
    return plans;
  }

  // The median time of a call, from a graph of several.
  double microseconds(const std::function<void(size_t)>& queue) {
    queue(0);  // one-time work per kernel, such as requesting shared memory
    stream_.synchronize();
    const Graph graph = stream_.capture([&] {
      for (int turn = 0; turn < options_.launches; ++turn) queue(static_cast<size_t>(turn));
    });
    Event start(device_, true), end(device_, true);
    std::vector<double> times;
    for (int run = -1; run < options_.runs; ++run) {  // a graph's first launch uploads it
      if (options_.before_run) options_.before_run();
      stream_.record(start);
      stream_.launch(graph);
      stream_.record(end);
      stream_.synchronize();
      if (run >= 0) times.push_back(Event::milliseconds(start, end) * 1000.0 / options_.launches);
    }
    return std::max(median(std::move(times)), 1e-3);  // the clock's resolution
  }

  // The smallest row count from which panels won every measurement.
  void write_crossover(const TuneShape& shape, size_t first) {
    Crossover crossover{shape.bits, shape.out, shape.in, Crossover::never};
    bool any = false;
    for (size_t i = report_.measurements.size(); i-- > first;) {
      const TuneMeasurement& measured = report_.measurements[i];
      if (measured.panels == 0) break;
      any = true;
      if (measured.panels >= measured.fused) break;
      crossover.rows = measured.rows;
    }
    const auto same = [&](const Crossover& other) {
      return other.bits == shape.bits && other.out == shape.out && other.in == shape.in;
    };
    std::vector<Crossover>& all = report_.tuning.crossovers;
    if (any && std::none_of(all.begin(), all.end(), same)) all.push_back(crossover);
  }

  // Unmeasured tiles get the median factor of the other tiles with these bits; otherwise a tile could win because it
  // was never measured.
  void write_factors() {
    for (const int bits : {4, 8, 16}) {
      std::vector<double> all;
      std::map<int, double> factors;
      for (const auto& [key, samples] : tile_samples_) {
        if (key.first != bits) continue;
        factors[key.second] = median(samples);
        all.push_back(factors[key.second]);
      }
      if (all.empty()) continue;
      for (int tile = 0; tile < tile_count(bits); ++tile) {
        const TileShape& shape = tile_shape(bits, tile);
        const double factor = factors.contains(tile) ? factors[tile] : median(all);
        report_.tuning.tiles.push_back({bits, shape.tokens, shape.outputs, shape.inputs, factor, shape.bulk});
      }
    }
    if (!panel_samples_.empty()) report_.tuning.panel_factor = median(panel_samples_);
  }

  const TuneOptions& options_;
  Device& device_;
  Stream stream_;
  const GemmMachine machine_;
  const DType element_;
  std::map<std::pair<int, int>, std::vector<double>> tile_samples_;  // by bits and tile: measured / expected
  std::vector<double> panel_samples_;
  TuneReport report_;
};

}  // namespace

TuneReport tune(const TuneOptions& options) {
  check_options(options);
  return Tuner(options).run();
}

}  // namespace billfish::BILLFISH_TARGET
