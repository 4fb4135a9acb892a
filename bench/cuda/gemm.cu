// How fast the dequant GEMM is on a GPU: microseconds, bytes a second beside what copying reaches in the same run, and
// the ratio to cuBLAS in 16 bits where there is a libcublas.
//
//   cuda_gemm [--shapes qwen2-72b,qwen2-7b,8192x8192] [--rows 1,2,4,8,16,32,64,128,256,512,1024] [--bits 4,8,16]
//             [--group 128] [--zeros] [--bfloat16] [--tune] [--json] [--device 0]
//             [--kernels auto,staged,bulk]
//
// A shape is outputs x inputs, or the linears of a model's layer. Weights are random and taken in turn from copies that
// together exceed three times the L2 cache; launches are recorded as a graph, and the median of its runs is given.
// --tune tries every tile with several numbers of blocks instead of the plan that the cost model chooses. --kernels
// staged,bulk measures the kernels of gemm.h and gemm_bulk.h beside each other, where there are both: the latter's
// lines end with 'bulk copies'.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "engine/error.h"
#include "marlin/layout.h"
#include "marlin/planned_linear.h"
#include "marlin/tuned_machine.h"
#include "runtime/matrix_library.h"
#include "runtime/memory.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {
namespace {

struct LinearShape {
  std::string name;
  int64_t out, in;
};

const std::map<std::string, std::vector<LinearShape>> models = {
    {"qwen2-7b", {{"qkv", 4608, 3584}, {"o", 3584, 3584}, {"gate_up", 37888, 3584}, {"down", 3584, 18944}}},
    {"qwen2-32b", {{"qkv", 7168, 5120}, {"o", 5120, 5120}, {"gate_up", 55296, 5120}, {"down", 5120, 27648}}},
    {"qwen2-72b", {{"qkv", 10240, 8192}, {"o", 8192, 8192}, {"gate_up", 59136, 8192}, {"down", 8192, 29568}}},
    {"qwen2-72b-padded", {{"gate_up", 59392, 8192}, {"down", 8192, 29696}}},
};

struct Options {
  std::vector<LinearShape> shapes;
  std::vector<int64_t> rows = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024};
  std::vector<int64_t> bits = {4, 8, 16};
  int64_t group_size = 128;
  std::vector<std::string> kernels = {"auto"};
  bool zeros = false, bfloat16 = false, tune = false, json = false;
  int device = 0;
};

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
  return parts;
}

std::vector<int64_t> numbers(const std::string& text) {
  std::vector<int64_t> values;
  for (const std::string& part : split(text)) values.push_back(std::atoll(part.c_str()));
  return values;
}

std::vector<LinearShape> shapes_of(const std::string& text) {
  std::vector<LinearShape> shapes;
  for (const std::string& part : split(text)) {
    if (const auto model = models.find(part); model != models.end()) {
      for (const LinearShape& shape : model->second) {
        shapes.push_back({part + " " + shape.name, shape.out, shape.in});
      }
      continue;
    }
    LinearShape shape{part, 0, 0};
    long long out = 0, in = 0;
    if (std::sscanf(part.c_str(), "%lldx%lld", &out, &in) != 2) {
      throw Error("INVALID_OPTION", "--shapes: '" + part + "' is neither a model nor OUTxIN such as 8192x8192.");
    }
    shape.out = out, shape.in = in;
    shapes.push_back(shape);
  }
  return shapes;
}

Options parse(int count, char** arguments) {
  Options options;
  std::string shapes = "qwen2-72b,8192x8192";
  for (int i = 1; i < count; ++i) {
    const std::string name = arguments[i];
    auto value = [&]() -> std::string {
      if (i + 1 == count) throw Error("INVALID_OPTION", name + " wants a value.");
      return arguments[++i];
    };
    if (name == "--shapes")
      shapes = value();
    else if (name == "--rows")
      options.rows = numbers(value());
    else if (name == "--bits")
      options.bits = numbers(value());
    else if (name == "--group")
      options.group_size = std::atoll(value().c_str());
    else if (name == "--device")
      options.device = std::atoi(value().c_str());
    else if (name == "--zeros")
      options.zeros = true;
    else if (name == "--bfloat16")
      options.bfloat16 = true;
    else if (name == "--kernels")
      options.kernels = split(value());
    else if (name == "--tune")
      options.tune = true;
    else if (name == "--json")
      options.json = true;
    else
      throw Error("INVALID_OPTION", "There is no option " + name + ".");
  }
  options.shapes = shapes_of(shapes);
  std::sort(options.bits.rbegin(), options.bits.rend());  // 16 first: cuBLAS is measured with its weights
  return options;
}

// The median time of what `queue` does, in microseconds: `turns` calls recorded as a graph, which is run several times.
double microseconds(Stream& stream, int turns, const std::function<void(int)>& queue) {
  queue(0);  // what is done once a kernel, such as asking for shared memory
  stream.synchronize();
  stream.begin_capture();
  for (int turn = 0; turn < turns; ++turn) queue(turn);
  const Graph graph = stream.end_capture();
  std::vector<double> times;
  Event start(stream.device(), true), end(stream.device(), true);
  for (int run = 0; run < 12; ++run) {
    stream.record(start);
    stream.launch(graph);
    stream.record(end);
    stream.synchronize();
    if (run >= 2) times.push_back(Event::milliseconds(start, end) * 1000.0 / turns);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

// Random bytes that everything is filled from. As halves of scales they would be anything: those are filled apart.
class RandomBytes {
 public:
  RandomBytes() : bytes_(size_t{8} << 20) {
    std::mt19937_64 random(1);
    for (size_t i = 0; i < bytes_.bytes() / 8; ++i) bytes_.as<uint64_t>()[i] = random();
  }
  void fill(Stream& stream, void* to, size_t bytes) const {
    for (size_t done = 0; done < bytes; done += bytes_.bytes()) {
      stream.copy_to_device(static_cast<uint8_t*>(to) + done, bytes_.data(), std::min(bytes_.bytes(), bytes - done));
    }
  }

 private:
  PinnedMemory bytes_;
};

struct Bench {
  Options options;
  Device& device;
  Stream stream;
  RandomBytes random;
  DeviceMemory cublas_workspace;
  std::unique_ptr<MatrixLibrary> cublas;                           // null where there is none
  double copy_rate = 0;                                            // bytes a microsecond, read and written
  std::map<std::pair<std::string, int64_t>, double> cublas_times;  // of shape and rows, 16 bits
  bool first = true;

  explicit Bench(const Options& given)
      : options(given),
        device(Device::at(given.device)),
        stream(device),
        cublas_workspace(device, matrix_library_bytes),
        cublas(open_matrix_library(stream, cublas_workspace.data())) {}

  void measure_copy() {
    const size_t bytes = std::min<size_t>(size_t{1} << 30, device.free_bytes() / 4);
    const DeviceMemory from(device, bytes), to(device, bytes);
    stream.fill(from.data(), 1, bytes);
    const double time = microseconds(stream, 2, [&](int) { stream.copy(to.data(), from.data(), bytes); });
    copy_rate = 2.0 * static_cast<double>(bytes) / time;
  }

  // Finite 16-bit numbers around 0.01: 0x21.. as a half, 0x3c.. as a bfloat16.
  void fill_elements(void* to, size_t bytes) { stream.fill(to, options.bfloat16 ? 0x3c : 0x21, bytes); }

  template <class Element>
  void run(const LinearShape& shape, int64_t bits) {
    const DType type = options.bfloat16 ? DType::bf16 : DType::f16;
    CanonicalShape canonical;
    canonical.name = shape.name;
    canonical.bits = static_cast<int>(bits);
    canonical.out = shape.out, canonical.in = shape.in;
    canonical.group_size = options.group_size <= 0 ? shape.in : options.group_size;
    canonical.has_zero_points = options.zeros;
    canonical.scale_type = type;
    const size_t bytes = bits == 16 ? matrix_bytes(shape.out, shape.in, false) : quantized_bytes(canonical);
    const auto copies = static_cast<int>(std::max<size_t>(2, 3 * device.properties().l2_bytes / bytes + 1));

    std::vector<DeviceMemory> blocks;
    std::vector<LinearWeight> weights;
    for (int i = 0; i < copies; ++i) {
      blocks.emplace_back(device, bytes);
      void* const block = blocks.back().data();
      if (bits == 16) {
        weights.push_back(lay_out_matrix(stream, shape.out, shape.in, type, {}, block));
        fill_elements(block, bytes);
      } else {
        weights.push_back(lay_out_quantized(stream, canonical, block));
        random.fill(stream, block, bytes);
        const PackedLayout layout(canonical);
        fill_elements(weights.back().scales, layout.zeros - layout.scales);
        if (options.zeros) stream.fill(weights.back().zeros, 7, layout.bias - layout.zeros);
      }
    }
    stream.synchronize();

    const int64_t most_rows = *std::max_element(options.rows.begin(), options.rows.end());
    const DeviceMemory x(device, most_rows * shape.in * 2), y(device, most_rows * shape.out * 2);
    const DeviceMemory scratch(device, linear_workspace_bytes({most_rows, shape.in}));
    fill_elements(x.data(), x.bytes());
    stream.fill(scratch.data(), 0, scratch.bytes());
    const LinearWorkspace workspace{scratch.data(), scratch.bytes()};
    const int turns = std::max(copies, 16);

    for (const int64_t rows : options.rows) {
      const Matrix<const Element> input{x.as<Element>(), rows, shape.in, shape.in};
      int64_t outputs;
      LinearCall call{&weights[0], y.data(), shape.out, type};
      const GemmProblem problem = problem_of(&call, 1, rows, &outputs);
      auto time_of = [&](const GemmPlan& plan) {
        return microseconds(stream, turns, [&](int turn) {
          call.weight = &weights[turn % copies];
          planned_linear<Element>(stream, &call, 1, input, workspace, plan);
        });
      };
      double& cublas_time = cublas_times[{shape.name, rows}];
      if (cublas && bits == 16) cublas_time = cublas_microseconds(type, rows, shape, weights, x, y, turns);
      const double moved = static_cast<double>(bytes) + static_cast<double>(rows * (shape.in + shape.out) * 2);
      for (const std::string& kernels : options.kernels) {
        GemmMachine machine = machine_of(device);
        machine.kernels = wanted_kernels(machine.kernels, kernels);
        const GemmPlan chosen = plan_gemm(machine, problem);
        report(shape, bits, rows, chosen, time_of(chosen), moved, cublas_time);
      }
      if (options.tune) tune(shape, bits, rows, problem, time_of, moved);
    }
  }

  double cublas_microseconds(DType type, int64_t rows, const LinearShape& shape,
                             const std::vector<LinearWeight>& weights, const DeviceMemory& x, const DeviceMemory& y,
                             int turns) {
    return microseconds(stream, turns, [&](int turn) {
      const LinearWeight& weight = weights[static_cast<size_t>(turn) % weights.size()];
      cublas->multiply({type, type, rows, shape.out, shape.in, x.data(), weight.elements, y.data(), shape.in,
                        weight.stride, shape.out, false});
    });
  }

  template <class TimeOf>
  void tune(const LinearShape& shape, int64_t bits, int64_t rows, const GemmProblem& problem, const TimeOf& time_of,
            double moved) {
    for (int tile = 0; tile < tile_count(static_cast<int>(bits)); ++tile) {
      uint32_t last = 0;
      for (const int part : {1, 2, 3, 4}) {  // quarters of what registers leave room for
        const int64_t blocks = int64_t{device.properties().multiprocessors} * part / 2;
        const GemmPlan plan = plan_tile(machine_of(device), problem, tile, blocks);
        if (plan.stages == 0 || plan.blocks == last || part > 2 * plan.shape.resident) continue;
        last = plan.blocks;
        report(shape, bits, rows, plan, time_of(plan), moved, 0);
      }
    }
  }

  void report(const LinearShape& shape, int64_t bits, int64_t rows, const GemmPlan& plan, double time, double moved,
              double cublas_time) {
    const double rate = moved / time, teraflops = 2e-6 * static_cast<double>(rows * shape.out * shape.in) / time;
    if (options.json) {
      std::printf(
          "%s\n  {\"shape\": \"%s\", \"out\": %lld, \"in\": %lld, \"bits\": %lld, \"rows\": %lld, "
          "\"microseconds\": %.2f, \"gigabytes_per_second\": %.1f, \"teraflops\": %.2f, \"of_copy\": %.4f, "
          "\"cublas_microseconds\": %.2f, \"tile\": [%d, %d, %d], \"blocks\": %u, \"stages\": %d, \"bulk\": %s}",
          first ? "" : ",", shape.name.c_str(), static_cast<long long>(shape.out), static_cast<long long>(shape.in),
          static_cast<long long>(bits), static_cast<long long>(rows), time, rate / 1000, teraflops, rate / copy_rate,
          cublas_time, plan.shape.tokens, plan.shape.outputs, plan.shape.inputs, plan.blocks, plan.stages,
          plan.shape.bulk ? "true" : "false");
      first = false;
      return;
    }
    std::printf("%-18s %2lld bits %5lld rows  %9.1f us  %6.0f GB/s  %5.1f %% of copying  %6.1f TFLOP/s",
                shape.name.c_str(), static_cast<long long>(bits), static_cast<long long>(rows), time, rate / 1000,
                100 * rate / copy_rate, teraflops);
    if (cublas_time > 0) std::printf("  %.2fx cuBLAS' %.1f us", cublas_time / time, cublas_time);
    std::printf("  %dx%dx%d, %u blocks, %d stages%s\n", plan.shape.tokens, plan.shape.outputs, plan.shape.inputs,
                plan.blocks, plan.stages, plan.shape.bulk ? ", bulk copies" : "");
    std::fflush(stdout);
  }

  void run() {
    measure_copy();
    const DeviceProperties& properties = device.properties();
    if (options.json) {
      std::printf("{\"device\": \"%s\", \"multiprocessors\": %d, \"copy_gigabytes_per_second\": %.1f, \"results\": [",
                  properties.name.c_str(), properties.multiprocessors, copy_rate / 1000);
    } else {
      std::printf("%s, %d multiprocessors; copying moves %.0f GB/s; cuBLAS %s\n", properties.name.c_str(),
                  properties.multiprocessors, copy_rate / 1000, cublas ? cublas_library().path.c_str() : "not found");
    }
    for (const LinearShape& shape : options.shapes) {
      for (const int64_t bits : options.bits) {
        options.bfloat16 ? run<bfloat16>(shape, bits) : run<half>(shape, bits);
      }
    }
    if (options.json) std::printf("\n]}\n");
  }
};

}  // namespace

static int bench(int count, char** arguments) {
  try {
    Bench(parse(count, arguments)).run();
    return 0;
  } catch (const Error& error) {
    std::fprintf(stderr, "%s: %s\n", error.code().c_str(), error.what());
    return 1;
  }
}

}  // namespace billfish::BILLFISH_TARGET

int main(int count, char** arguments) { return billfish::BILLFISH_TARGET::bench(count, arguments); }
