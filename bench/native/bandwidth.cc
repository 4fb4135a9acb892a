// How fast this machine reads memory: each thread sums its own part of a buffer far larger than the caches. Prints one
// line of JSON. Usage: bandwidth [threads] [MiB] [rounds] [each]; with `each`, one line of JSON for every line of
// input.
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

namespace {

// A 512-bit vector where the machine has them (GCC and Clang split it where it has not).
typedef uint64_t Vector __attribute__((vector_size(64)));

constexpr size_t unroll = 8;  // independent sums, so that loads and not the adder's latency set the pace

// Vectors that are fetched ahead into the second-level cache, as the kernels do it (8 KiB): the hardware's own
// prefetchers, which stop at the end of every 4 KiB page, leave a third of the bandwidth unused on some machines.
constexpr size_t fetch_ahead = 8192 / sizeof(Vector);
constexpr int second_level = 2;

uint64_t sum(const Vector* data, size_t count) {
  Vector sums[unroll] = {};
  for (size_t i = 0; i + unroll <= count; i += unroll) {
    for (size_t j = 0; j < unroll; ++j) {
      __builtin_prefetch(&data[i + j] + fetch_ahead, 0, second_level);  // past the end it fetches nothing
      sums[j] += data[i + j];
    }
  }
  Vector total = {};
  for (const Vector& partial : sums) total += partial;
  uint64_t result = 0;
  for (size_t lane = 0; lane < sizeof(Vector) / sizeof(uint64_t); ++lane) result += total[lane];
  return result;
}

double seconds_of_one_round(const Vector* data, size_t vectors, unsigned threads, std::atomic<uint64_t>& sink) {
  std::atomic<unsigned> waiting{threads};
  std::atomic<bool> start{false};
  std::vector<std::thread> workers;
  const size_t share = vectors / threads / unroll * unroll;
  for (unsigned worker = 0; worker < threads; ++worker) {
    workers.emplace_back([&, worker] {
      waiting.fetch_sub(1);
      while (!start.load(std::memory_order_acquire)) {
      }
      sink += sum(data + worker * share, share);
    });
  }
  while (waiting.load() != 0) std::this_thread::yield();
  const auto begin = std::chrono::steady_clock::now();
  start.store(true, std::memory_order_release);
  for (std::thread& worker : workers) worker.join();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

int main(int argc, char** argv) {
  const unsigned threads = argc > 1 ? std::atoi(argv[1]) : std::max(1u, std::thread::hardware_concurrency());
  const size_t mebibytes = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 1024;
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 10;
  const size_t bytes = mebibytes << 20;
  if (threads == 0 || bytes == 0 || rounds <= 0) {
    std::fprintf(stderr, "usage: bandwidth [threads] [MiB] [rounds], all positive\n");
    return 2;
  }
  const size_t huge_page = size_t{2} << 20;
  const size_t allocated = (bytes + huge_page - 1) / huge_page * huge_page;
  std::unique_ptr<void, decltype(&std::free)> memory(std::aligned_alloc(huge_page, allocated), &std::free);
  if (!memory) {
    std::fprintf(stderr, "no memory for a buffer of %zu MiB\n", mebibytes);
    return 1;
  }
#if defined(__linux__)
  // The bandwidth is the memory's, not that of the page tables: with 4 KiB pages it comes out several per cent lower.
  // Where the system refuses, ordinary pages do.
  madvise(memory.get(), allocated, MADV_HUGEPAGE);
#endif
  auto* data = static_cast<Vector*>(memory.get());
  const size_t vectors = bytes / sizeof(Vector);
  for (size_t i = 0; i < vectors; ++i)
    data[i] = Vector{} + i;  // every page is touched: untouched ones share one zero page

  const auto measure = [&] {
    std::atomic<uint64_t> sink{0};
    const size_t read = vectors / threads / unroll * unroll * threads * sizeof(Vector);
    std::vector<double> rates;
    for (int round = 0; round < rounds; ++round) {
      rates.push_back(static_cast<double>(read) / seconds_of_one_round(data, vectors, threads, sink) / 1e9);
    }
    std::sort(rates.begin(), rates.end());
    std::printf(
        "{\"threads\":%u,\"mebibytes\":%zu,\"rounds\":%d,\"gigabytesPerSecond\":{\"min\":%.2f,\"median\":%.2f,"
        "\"max\":%.2f},\"checksum\":%llu}\n",
        threads, mebibytes, rounds, rates.front(), rates[rates.size() / 2], rates.back(),
        static_cast<unsigned long long>(sink.load()));
    std::fflush(stdout);
  };
  if (argc <= 4) {
    measure();
    return 0;
  }
  for (int character; (character = std::getchar()) != EOF;) {
    if (character == '\n') measure();
  }
  return 0;
}
