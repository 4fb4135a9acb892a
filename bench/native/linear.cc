// How fast the CPU linears are: decode (one row) against the memory bandwidth that plain reading reaches in the same
// run, prefill (512 rows) in multiply-adds a cycle and core. Shapes of a Qwen2 model with hidden size 2048, 16 heads, 4
// key-value heads and an intermediate size of 5632, int4 in groups of 128, and an fp16 head of 32000 words.
//
// Usage: linear [rounds] [prefill rows]. Prints the best of all rounds: other work on the machine only ever adds time.
#include "cpu/linear.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cpu/cpu_backend.h"
#include "cpu/kernels.h"

using namespace billfish;
using namespace billfish::cpu;

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Weights are taken in turn from copies that together exceed the last-level cache several times.
constexpr size_t rotated_bytes = size_t{256} << 20;

struct Free {
  void operator()(uint8_t* data) const { std::free(data); }
};
using Block = std::unique_ptr<uint8_t, Free>;

Block random_block(size_t bytes, std::mt19937_64& random) {
  bytes = (bytes + 63) / 64 * 64;
  Block block(static_cast<uint8_t*>(std::aligned_alloc(64, bytes)));
  uint64_t* const words = reinterpret_cast<uint64_t*>(block.get());
  for (size_t i = 0; i < bytes / 8; ++i) words[i] = random();
  return block;
}

void fill_halves(uint16_t* halves, size_t count, float largest, std::mt19937_64& random) {
  std::uniform_real_distribution<float> value(largest / 4, largest);
  for (size_t i = 0; i < count; ++i) halves[i] = float_to_f16(value(random));
}

// A dependent chain of additions takes a cycle each: its time tells the clock of the core as it is now.
double cycles_per_second() {
  double best = 1e9;
  for (int round = 0; round < 20; ++round) {
    const Clock::time_point start = Clock::now();
    uint64_t chain = 1;
    for (int i = 0; i < 1'000'000; ++i) asm volatile("add $1, %0" : "+r"(chain));
    best = std::min(best, seconds_since(start));
  }
  return 1e6 / best;
}

// Copies of one or several weights that run in one call, as q, k and v do.
struct Case {
  std::string name;
  int64_t in = 0;
  std::vector<int64_t> outs;
  bool quantized = true;
  size_t bytes = 0;
  std::vector<Block> blocks;
  std::vector<std::vector<QuantizedLinear>> linears;  // [copy][weight]
  std::vector<std::vector<Matrix>> matrices;

  size_t copies() const { return quantized ? linears.size() : matrices.size(); }
  int64_t outputs() const {
    int64_t sum = 0;
    for (const int64_t out : outs) sum += out;
    return sum;
  }
};

Case make_case(std::string name, int64_t in, std::vector<int64_t> outs, bool quantized, std::mt19937_64& random) {
  Case made{std::move(name), in, std::move(outs), quantized, 0, {}, {}, {}};
  for (size_t total = 0; total < rotated_bytes;) {
    std::vector<QuantizedLinear> linears;
    std::vector<Matrix> matrices;
    size_t bytes = 0;
    for (const int64_t out : made.outs) {
      if (quantized) {
        CanonicalShape shape;
        shape.out = out;
        shape.in = in;
        shape.group_size = 128;
        bytes += packed_bytes(shape);
        made.blocks.push_back(random_block(packed_bytes(shape), random));
        linears.push_back(make_quantized_linear(shape, made.blocks.back().get()));
        fill_halves(static_cast<uint16_t*>(linears.back().scales), out * shape.groups(), 0.01f, random);
      } else {
        bytes += out * in * 2;
        made.blocks.push_back(random_block(out * in * 2, random));
        fill_halves(reinterpret_cast<uint16_t*>(made.blocks.back().get()), out * in, 0.1f, random);
        matrices.push_back({DType::f16, out, in, made.blocks.back().get(), nullptr});
      }
    }
    made.bytes = bytes;
    total += bytes;
    if (quantized) {
      made.linears.push_back(std::move(linears));
    } else {
      made.matrices.push_back(std::move(matrices));
    }
  }
  return made;
}

// Best seconds of one linear() on `rows` rows, copies in turn.
double best_seconds(const Case& made, int64_t rows, Precision precision, int turns, ThreadPool& pool) {
  static std::vector<char> scratch;
  static size_t copy = 0;
  std::vector<float> x(rows * made.in), out(rows * made.outputs());
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal;
  for (float& value : x) value = normal(random);
  const Rows input{x.data(), rows, made.in, made.in};
  double best = 1e9;
  for (int turn = 0; turn < turns; ++turn, ++copy) {
    std::vector<LinearCall> calls;
    int64_t column = 0;
    for (size_t i = 0; i < made.outs.size(); ++i) {
      const size_t now = copy % made.copies();
      calls.push_back({made.quantized ? nullptr : &made.matrices[now][i],
                       made.quantized ? &made.linears[now][i] : nullptr, out.data() + column, made.outputs()});
      column += made.outs[i];
    }
    scratch.resize(std::max(scratch.size(), linear_scratch_bytes(calls[0], rows, precision)));
    const Clock::time_point start = Clock::now();
    linear(calls.data(), static_cast<int>(calls.size()), input, precision, {scratch.data(), scratch.size()}, pool);
    best = std::min(best, seconds_since(start));
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 5;
  const int64_t prefill_rows = argc > 2 ? std::atoi(argv[2]) : 512;
  ThreadPool& pool = ThreadPool::shared();
  std::mt19937_64 random(7);

  std::vector<Case> cases;
  cases.push_back(make_case("q or o", 2048, {2048}, true, random));
  cases.push_back(make_case("k or v", 2048, {512}, true, random));
  cases.push_back(make_case("gate or up", 2048, {5632}, true, random));
  cases.push_back(make_case("down", 5632, {2048}, true, random));
  cases.push_back(make_case("q, k, v at once", 2048, {2048, 512, 512}, true, random));
  cases.push_back(make_case("gate, up at once", 2048, {5632, 5632}, true, random));
  cases.push_back(make_case("fp16 head", 2048, {32000}, false, random));
  const auto hooks = make_benchmark_hooks(pool);

  double bytes_per_second = 0, hertz = 0;
  std::vector<double> decode(cases.size(), 1e9), decode_four(cases.size(), 1e9), prefill(cases.size(), 1e9);
  for (int round = 0; round < rounds; ++round) {
    bytes_per_second = std::max(bytes_per_second, hooks->memory_rate());
    hertz = std::max(hertz, cycles_per_second());
    for (size_t i = 0; i < cases.size(); ++i) {
      const int turns = static_cast<int>(std::max<size_t>(8, cases[i].copies()));
      decode[i] = std::min(decode[i], best_seconds(cases[i], 1, Precision::fast, turns, pool));
      decode_four[i] = std::min(decode_four[i], best_seconds(cases[i], 4, Precision::fast, turns, pool));
      prefill[i] =
          std::min(prefill[i], best_seconds(cases[i], prefill_rows, Precision::fast, cases[i].quantized ? 3 : 1, pool));
    }
  }

  std::printf("%s, %d threads at %.2f GHz, reading %.1f GB/s\n", name(instruction_set()), pool.threads(), hertz * 1e-9,
              bytes_per_second * 1e-9);
  std::printf("%-18s %6s %6s | %9s %7s %5s | %9s %5s | %9s %8s %s\n", "", "in", "out", "1 row us", "GB/s", "%",
              "4 rows us", "%", "prefill us", "GMAC/s", "MAC/cycle/core");
  for (size_t i = 0; i < cases.size(); ++i) {
    const auto percent = [&](double seconds) { return 100.0 * cases[i].bytes / seconds / bytes_per_second; };
    const double macs = static_cast<double>(prefill_rows) * cases[i].in * cases[i].outputs() / prefill[i];
    std::printf("%-18s %6ld %6ld | %9.1f %7.1f %5.1f | %9.1f %5.1f | %9.0f %8.1f %.1f\n", cases[i].name.c_str(),
                static_cast<long>(cases[i].in), static_cast<long>(cases[i].outputs()), decode[i] * 1e6,
                cases[i].bytes / decode[i] * 1e-9, percent(decode[i]), decode_four[i] * 1e6, percent(decode_four[i]),
                prefill[i] * 1e6, macs * 1e-9, macs / hertz / pool.threads());
  }
  return 0;
}
