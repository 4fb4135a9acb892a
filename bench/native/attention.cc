// Attention and the small operators around it: prefill in GFLOP/s beside the processor's own multiply-add peak, decode
// in GB/s of keys and values, and the cost of a parallel region. Usage: attention [threads] [scalar|avx2|avx512]
#include "cpu/attention.h"
#include "cpu/operators.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <vector>

#include "cpu/cpu_backend.h"
#include "cpu/host_memory.h"
#include "cpu/kernels.h"

using namespace billfish;
using namespace billfish::cpu;

namespace {

// The best of several runs, in seconds: other work on the machine only ever makes a run longer.
double best_seconds(int runs, const std::function<void()>& body) {
  double best = 1e9;
  for (int run = 0; run < runs; ++run) {
    const auto start = std::chrono::steady_clock::now();
    body();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

// The widest vectors of the machine that this was compiled for.
#if defined(__AVX512F__)
typedef __m512 Lanes;
Lanes multiply_add(Lanes a, Lanes b, Lanes c) { return _mm512_fmadd_ps(a, b, c); }
#elif defined(__FMA__)
typedef __m256 Lanes;
Lanes multiply_add(Lanes a, Lanes b, Lanes c) { return _mm256_fmadd_ps(a, b, c); }
#else
typedef float Lanes __attribute__((vector_size(16)));
Lanes multiply_add(Lanes a, Lanes b, Lanes c) { return a * b + c; }
#endif

// Multiply-adds on registers alone.
double peak_gflops(ThreadPool& pool) {
  constexpr int chains = 16, steps = 200000;
  const int workers = pool.threads();
  std::vector<float> sink(static_cast<size_t>(workers) * 64);
  const double seconds = best_seconds(10, [&] {
    pool.parallel_for(workers, 1, [&](int64_t begin, int64_t end) {
      for (int64_t worker = begin; worker < end; ++worker) {
        Lanes sums[chains], factor = Lanes{} + 0.5f, term = Lanes{} + 1.0f;
        for (int i = 0; i < chains; ++i) sums[i] = term * static_cast<float>(i);
        // Not known to the compiler to be different from each other: else it keeps one chain of the sixteen.
        for (Lanes& sum : sums) asm volatile("" : "+m"(sum));
        for (int step = 0; step < steps; ++step) {
#pragma GCC unroll 16
          for (int i = 0; i < chains; ++i) sums[i] = multiply_add(sums[i], factor, term);
        }
        Lanes total = {};
        for (const Lanes& sum : sums) total += sum;
        sink[static_cast<size_t>(worker) * 64] = total[0];
      }
    });
  });
  return 2.0 * chains * steps * (sizeof(Lanes) / sizeof(float)) * workers / seconds * 1e-9;
}

struct Case {
  int heads, kv_heads, head_dim;
  DType type;
  int sequences, past, rows, window;
};

const char* name_of(DType type) { return type == DType::f32 ? "f32" : type == DType::f16 ? "f16" : "bf16"; }

void bench_attention(const Case& c, double peak, double bandwidth, ThreadPool& pool) {
  constexpr int block_size = 16;
  std::mt19937 generator(1);
  const int blocks_each = (c.past + c.rows + block_size - 1) / block_size;
  std::vector<int32_t> table(static_cast<size_t>(blocks_each) * c.sequences);
  std::iota(table.begin(), table.end(), 0);
  std::shuffle(table.begin(), table.end(), generator);
  Batch batch;
  for (int s = 0; s < c.sequences; ++s) {
    SequenceSpan span;
    span.first_row = s * c.rows;
    span.rows = c.rows;
    span.past = c.past;
    span.blocks = table.data() + static_cast<size_t>(s) * blocks_each;
    span.block_count = blocks_each;
    batch.sequences.push_back(span);
    for (int i = 0; i < c.rows; ++i) {
      batch.tokens.push_back(0);
      batch.positions.push_back(c.past + i);
    }
  }
  // Small integers: finite in every cache type, whichever bytes the halves of a float are read as.
  const size_t cache_bytes = table.size() * block_size * c.kv_heads * c.head_dim * byte_size(c.type);
  HostMemory k_cache = HostMemory::allocate(cache_bytes, "cpu"), v_cache = HostMemory::allocate(cache_bytes, "cpu");
  std::memset(k_cache.data(), 0x11, cache_bytes);
  std::memset(v_cache.data(), 0x11, cache_bytes);
  const int64_t rows = batch.rows(), columns = static_cast<int64_t>(c.heads) * c.head_dim;
  const int64_t kv_columns = static_cast<int64_t>(c.kv_heads) * c.head_dim;
  std::vector<float> q(static_cast<size_t>(rows * columns), 0.1f), k(static_cast<size_t>(rows * kv_columns), 0.1f);
  std::vector<float> out(q.size());
  cpu::Attention a;
  a.q = {q.data(), rows, columns, columns};
  a.k = {k.data(), rows, kv_columns, kv_columns};
  a.v = a.k;
  a.out = out.data();
  a.out_stride = columns;
  a.k_cache = k_cache.data();
  a.v_cache = v_cache.data();
  a.cache_type = c.type;
  a.block_size = block_size;
  a.heads = c.heads;
  a.kv_heads = c.kv_heads;
  a.head_dim = c.head_dim;
  a.scale = 1 / std::sqrt(static_cast<float>(c.head_dim));
  a.window = c.window;
  const size_t scratch_bytes = attention_scratch_bytes(c.heads, c.kv_heads, c.head_dim, rows, c.past + c.rows);
  HostMemory memory = HostMemory::allocate(scratch_bytes, "cpu");
  const Scratch scratch{memory.data(), scratch_bytes};
  const double seconds = best_seconds(c.rows > 1 ? 20 : 100, [&] { attention(a, batch, scratch, pool); });

  double pairs = 0, keys = 0;  // query-key pairs that the mask leaves; keys that are read
  for (int i = 0; i < c.rows; ++i) pairs += c.window > 0 ? std::min(c.window, c.past + i + 1) : c.past + i + 1;
  keys = c.window > 0 ? std::min(c.window + c.rows - 1, c.past + c.rows) : c.past + c.rows;
  const double flops = 4.0 * pairs * c.sequences * columns;
  const double bytes = 2.0 * keys * c.sequences * kv_columns * static_cast<double>(byte_size(c.type));
  std::printf("heads %2d/%-2d x %-3d %-4s  %2d x (past %5d, rows %4d) window %4d  %9.1f us  %7.1f GFLOP/s (%3.0f %%)  ",
              c.heads, c.kv_heads, c.head_dim, name_of(c.type), c.sequences, c.past, c.rows, c.window, seconds * 1e6,
              flops / seconds * 1e-9, 100 * flops / seconds * 1e-9 / peak);
  std::printf("%6.1f GB/s (%3.0f %%)\n", bytes / seconds * 1e-9, 100 * bytes / seconds * 1e-9 / bandwidth);
}

void bench_regions(ThreadPool& pool) {
  for (const int64_t microseconds : {0, 5, 20, 100}) {
    // A region of 64 pieces that spin for a known time in all, against that time shared perfectly.
    const auto each = std::chrono::nanoseconds(microseconds * 1000 / 64);
    const double seconds = best_seconds(2000, [&] {
      pool.parallel_for(64, 1, [&](int64_t begin, int64_t end) {
        if (microseconds == 0) return;
        const auto until = std::chrono::steady_clock::now() + each * (end - begin);
        while (std::chrono::steady_clock::now() < until) continue;
      });
    });
    std::printf("region of %3d us of work over %d threads: %6.2f us\n", static_cast<int>(microseconds), pool.threads(),
                seconds * 1e6);
  }
}

void bench_rows(ThreadPool& pool) {
  for (const int64_t rows : {1, 512}) {
    const int64_t hidden = 2048, intermediate = 5632;
    std::vector<float> x(static_cast<size_t>(rows * intermediate), 0.3f), y = x, out = x, weight(5632, 1.0f);
    std::vector<float> table(static_cast<size_t>(rows * 128), 0.7f);
    OperatorContext context{pool};
    context.rope_tables = {{table.data(), 64}};
    const auto tensor = [&](std::vector<float>& values, int64_t columns) {
      return Tensor{values.data(), DType::f32, rows, columns, columns};
    };
    VectorWeight factors;
    factors.values = weight.data();
    const Call<billfish::RmsNorm> rms_norm{tensor(x, hidden), &factors, hidden, 1e-6f, tensor(out, hidden)};
    const Call<billfish::SiluMul> silu_mul{tensor(x, intermediate), tensor(y, intermediate)};
    const Call<billfish::Rope> rope{tensor(out, hidden), 16, 128, 0};
    const double norm = best_seconds(200, [&] { run(context, rms_norm); });
    const double silu = best_seconds(200, [&] { run(context, silu_mul); });
    const double rotation = best_seconds(200, [&] { run(context, rope); });
    std::printf("rows %3d: rms_norm(2048) %.2f us, silu_mul(5632) %.2f us, rope(16 x 128) %.2f us\n",
                static_cast<int>(rows), norm * 1e6, silu * 1e6, rotation * 1e6);
  }
}

}  // namespace

int main(int argc, char** argv) {
  ThreadPool pool(argc > 1 ? std::atoi(argv[1]) : ThreadPool::shared().threads());
  for (const InstructionSet set : {InstructionSet::scalar, InstructionSet::avx2, InstructionSet::avx512}) {
    if (argc > 2 && std::strcmp(argv[2], name(set)) == 0) set_instruction_set(set);
  }
  const double peak = peak_gflops(pool);
  const double bandwidth = make_benchmark_hooks(pool)->memory_rate() * 1e-9;
  std::printf("%s, %d threads, fp32 multiply-add peak %.0f GFLOP/s, reading %.1f GB/s\n", name(instruction_set()),
              pool.threads(), peak, bandwidth);
  for (const Case& c : std::initializer_list<Case>{
           {16, 4, 128, DType::f32, 1, 0, 512, 0},
           {16, 4, 128, DType::f16, 1, 0, 512, 0},
           {16, 16, 64, DType::f16, 1, 0, 512, 0},
           {14, 2, 64, DType::f16, 1, 0, 512, 0},
           {16, 4, 80, DType::bf16, 1, 0, 512, 0},
           {16, 4, 128, DType::f16, 1, 3584, 512, 0},
           {16, 4, 128, DType::f16, 1, 3584, 512, 1024},
           {16, 4, 128, DType::f16, 1, 4095, 8, 0},
           {16, 4, 128, DType::f32, 1, 511, 1, 0},
           {16, 4, 128, DType::f16, 1, 511, 1, 0},
           {16, 4, 128, DType::f16, 1, 8191, 1, 0},
           {16, 4, 128, DType::f16, 1, 65535, 1, 0},
           {16, 4, 128, DType::f32, 1, 65535, 1, 0},
           {16, 16, 128, DType::f16, 1, 16383, 1, 0},
           {28, 4, 128, DType::f16, 1, 32767, 1, 0},
           {16, 4, 128, DType::f16, 16, 2047, 1, 0},
       }) {
    bench_attention(c, peak, bandwidth, pool);
  }
  bench_rows(pool);
  bench_regions(pool);
}
