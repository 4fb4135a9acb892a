// Tensor-core operations and matrix loads against plain loops, and a whole small GEMM with its time.
#include <chrono>
#include <cstdio>
#include <random>
#include <vector>

#include "primitives/async_copy.h"
#include "primitives/index.h"
#include "primitives/mma.h"
#include "primitives/sync.h"
#include "support/kernel_numbers.h"
#include "support/kernel_testing.h"

namespace billfish::BILLFISH_TARGET {

namespace {

// Small whole numbers: every product and sum is exact, whatever the order.
std::vector<float> whole_numbers(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random() % 17) - 8;
  return values;
}

template <class T>
DeviceMemory upload_as(Stream& stream, const std::vector<float>& values) {
  constexpr Float16Format format = std::is_same_v<T, half> ? half_format : bfloat16_format;
  std::vector<uint16_t> bits;
  for (const float value : values) bits.push_back(format.nearest(value));
  return upload(stream, bits);
}

// a [rows, k] * b [k, columns], b given by element.
template <class B>
std::vector<float> product(const std::vector<float>& a, const B& b, size_t rows, size_t columns, size_t k) {
  std::vector<float> c(rows * columns);
  for (size_t row = 0; row < rows; ++row) {
    for (size_t column = 0; column < columns; ++column) {
      for (size_t i = 0; i < k; ++i) c[row * columns + column] += a[row * k + i] * b(i, column);
    }
  }
  return c;
}

// One 16x8x16 product by one warp, fragments loaded by hand as mma.h draws them.
template <class T>
struct OneTile {
  static constexpr int max_threads = 32, k = 16;
  Global<const T> a;  // [16, k]
  Global<const T> b;  // [k, 8]
  Global<float> c;    // [16, 8]

  DEVICE uint32_t pair(T x, T y) const { return bit_cast<uint32_t>(make_pair_of(x, y)); }

  DEVICE void operator()() const {
    const uint32_t g = lane_index() / 4, t = lane_index() % 4;
    uint32_t fragment_a[k / 4], fragment_b[k / 8];
    for (uint32_t i = 0; i < k / 4; ++i) {
      Global<const T> at = a + (g + i % 2 * 8) * k + 2 * t + i / 2 * 8;
      fragment_a[i] = pair(at[0], at[1]);
    }
    for (uint32_t i = 0; i < k / 8; ++i) {
      Global<const T> at = b + (2 * t + 8 * i) * 8 + g;
      fragment_b[i] = pair(at[0], at[8]);
    }
    float sums[4] = {1, 2, 3, 4};
    mma_m16n8k16<T>(sums, fragment_a, fragment_b);
    for (uint32_t i = 0; i < 4; ++i) {
      c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sums[i] - static_cast<float>(i + 1);
    }
  }
};

template <class T>
void check_one_tile() {
  constexpr int k = OneTile<T>::k;
  Stream stream(Device::at(0));
  const auto a = whole_numbers(16 * k, 1), b = whole_numbers(k * 8, 2);
  const DeviceMemory a_memory = upload_as<T>(stream, a), b_memory = upload_as<T>(stream, b),
                     c(Device::at(0), 16 * 8 * 4);
  launch(stream, {.block = {32}}, OneTile<T>{a_memory.as<T>(), b_memory.as<T>(), c.as<float>()});
  CHECK(download<float>(stream, c) == product(
                                          a, [&](size_t i, size_t n) { return b[i * 8 + n]; }, 16, 8, k));
}

// Loads four 8x8 matrices from rows of 8, and writes every lane's registers.
template <int count, bool transposed>
struct LoadMatrices {
  static constexpr int max_threads = 32;
  Global<uint32_t> out;

  DEVICE void operator()() const {
    Shared<uint16_t> rows = shared_memory<uint16_t>();
    for (uint32_t i = 0; i < 8; ++i) rows[lane_index() * 8 + i] = static_cast<uint16_t>(lane_index() * 8 + i);
    sync_warp();
    uint32_t registers[count];
    ldmatrix<count, transposed>(registers, rows + lane_index() * 8);
    for (int i = 0; i < count; ++i) out[lane_index() * count + static_cast<uint32_t>(i)] = registers[i];
  }
};

template <int count, bool transposed>
void check_load_matrices() {
  Stream stream(Device::at(0));
  const DeviceMemory out(Device::at(0), 32 * count * sizeof(uint32_t));
  launch(stream, {.block = {32}, .shared_bytes = 512}, LoadMatrices<count, transposed>{out.as<uint32_t>()});
  const auto registers = download<uint32_t>(stream, out);
  for (uint32_t lane = 0; lane < 32; ++lane) {
    for (uint32_t matrix = 0; matrix < count; ++matrix) {
      const uint32_t g = lane / 4, t = lane % 4 * 2, first = matrix * 64;
      const uint32_t low = first + (transposed ? t * 8 + g : g * 8 + t);
      const uint32_t high = first + (transposed ? (t + 1) * 8 + g : g * 8 + t + 1);
      CHECK(registers[lane * count + matrix] == (high << 16 | low));
    }
  }
}

// C [16, n] = A [16, k] * B [n, k]^T with n = k = 256: 8 warps of 32 columns each, tiles of 64 in k, copied two ahead.
struct SmallGemm {
  static constexpr int max_threads = 256;
  static constexpr uint32_t n = 256, k = 256, tile_k = 64, stages = 3, tiles = k / tile_k;
  static constexpr uint32_t row = tile_k + 8;  // elements: padded against bank conflicts
  static constexpr uint32_t stage_elements = (16 + n) * row, shared_bytes = stages * stage_elements * 2;
  Global<const half> a, b;
  Global<float> c;

  DEVICE void fetch(uint32_t tile) const {
    if (tile < tiles) {
      Shared<half> to = shared_memory<half>() + tile % stages * stage_elements;
      for (uint32_t chunk = thread_index().x; chunk < (16 + n) * tile_k / 8; chunk += block_size().x) {
        const uint32_t r = chunk / (tile_k / 8), column = chunk % (tile_k / 8) * 8;
        Global<const half> from = r < 16 ? a + r * k : b + (r - 16) * k;
        cp_async<16>(to + r * row + column, from + tile * tile_k + column);
      }
    }
    cp_async_commit();
  }

  DEVICE void operator()() const {
    const uint32_t lane = lane_index(), warp = warp_index();
    float sums[4][4] = {};
    fetch(0);
    fetch(1);
    for (uint32_t tile = 0; tile < tiles; ++tile) {
      cp_async_wait<1>();
      sync_threads();
      fetch(tile + 2);
      Shared<const half> from = shared_memory<half>() + tile % stages * stage_elements;
      for (uint32_t step = 0; step < tile_k; step += 16) {
        uint32_t fragment_a[4];
        ldmatrix<4>(fragment_a, from + lane % 16 * row + step + lane / 16 * 8);
        for (uint32_t block = 0; block < 4; ++block) {
          uint32_t fragment_b[2];
          ldmatrix<2>(fragment_b, from + (16 + warp * 32 + block * 8 + lane % 8) * row + step + lane / 8 % 2 * 8);
          mma_m16n8k16<half>(sums[block], fragment_a, fragment_b);
        }
      }
    }
    for (uint32_t block = 0; block < 4; ++block) {
      for (uint32_t i = 0; i < 4; ++i) {
        c[(lane / 4 + i / 2 * 8) * n + warp * 32 + block * 8 + lane % 4 * 2 + i % 2] = sums[block][i];
      }
    }
  }
};

}  // namespace

TEST(cuda_mma_multiplies_fragments) {
  in_every_schedule([] {
    check_one_tile<half>();
    check_one_tile<bfloat16>();
  });
}

TEST(cuda_mma_loads_matrices) {
  check_load_matrices<1, false>();
  check_load_matrices<2, false>();
  check_load_matrices<4, false>();
  check_load_matrices<1, true>();
  check_load_matrices<2, true>();
  check_load_matrices<4, true>();
}

TEST(cuda_mma_runs_a_gemm) {
  const auto a = whole_numbers(16 * SmallGemm::k, 1), b = whole_numbers(SmallGemm::n * SmallGemm::k, 2);
  const auto expected = product(
      a, [&](size_t i, size_t n) { return b[n * SmallGemm::k + i]; }, 16, SmallGemm::n, SmallGemm::k);
  in_every_schedule([&] {
    Stream stream(Device::at(0));
    const DeviceMemory a_memory = upload_as<half>(stream, a), b_memory = upload_as<half>(stream, b),
                       c(Device::at(0), 16 * 256 * 4);
    stream.synchronize();
    const auto start = std::chrono::steady_clock::now();
    launch(stream, {.block = {256}, .shared_bytes = SmallGemm::shared_bytes},
           SmallGemm{a_memory.as<half>(), b_memory.as<half>(), c.as<float>()});
    CHECK(download<float>(stream, c) == expected);
    const std::chrono::duration<double, std::milli> elapsed = std::chrono::steady_clock::now() - start;
    std::printf("  a 16x256x256 GEMM in one block on %s, schedule %s: %.2f ms\n", stream.device().name().c_str(),
                Schedule::current().text().c_str(), elapsed.count());
  });
}

}  // namespace billfish::BILLFISH_TARGET
