// Attention against the fp64 reference, on every instruction set that this processor has.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "cpu/attention.h"
#include "cpu/host_memory.h"
#include "cpu/kernels.h"
#include "support/attention_cases.h"
#include "support/check.h"
#include "support/every_instruction_set.h"

using namespace billfish;
using namespace billfish::cpu;
using attention_test::Part, attention_test::Sequences;

namespace {

// --- The reference: plain fp64 loops. Keys and values of this step are first rounded to the cache's type, as the cache
// would; earlier ones are read from the cache.

double as_cached(DType type, float value) {
  if (type != DType::f32 && !std::isfinite(value)) return std::numeric_limits<double>::quiet_NaN();
  if (type == DType::f16) return f16_to_float(float_to_f16(std::clamp(value, -65504.0f, 65504.0f)));
  if (type == DType::bf16) {
    const float largest = bf16_to_float(0x7f7f);
    return bf16_to_float(float_to_bf16(std::clamp(value, -largest, largest)));
  }
  return value;
}

// Keys (or values) of one sequence and kv head as [past + rows][head_dim].
std::vector<double> gather(const Attention& a, const SequenceSpan& sequence, int kv_head, const void* cache,
                           const Rows& fresh) {
  std::vector<double> rows;
  for (int64_t position = 0; position < sequence.past + sequence.rows; ++position) {
    for (int64_t c = 0; c < a.head_dim; ++c) {
      if (position >= sequence.past) {
        const int64_t row = sequence.first_row + position - sequence.past;
        rows.push_back(as_cached(a.cache_type, fresh.data[row * fresh.stride + kv_head * a.head_dim + c]));
        continue;
      }
      const int64_t block = sequence.blocks[position / a.block_size];
      const int64_t at = ((block * a.kv_heads + kv_head) * a.block_size + position % a.block_size) * a.head_dim + c;
      if (a.cache_type == DType::f32) {
        rows.push_back(static_cast<const float*>(cache)[at]);
      } else {
        const uint16_t half = static_cast<const uint16_t*>(cache)[at];
        rows.push_back(a.cache_type == DType::f16 ? f16_to_float(half) : bf16_to_float(half));
      }
    }
  }
  return rows;
}

// out is [rows][heads * head_dim].
void attention_reference(const Attention& a, const Batch& batch, double* out) {
  for (const SequenceSpan& sequence : batch.sequences) {
    for (int head = 0; head < a.heads; ++head) {
      const int kv_head = head / (a.heads / a.kv_heads);
      const std::vector<double> keys = gather(a, sequence, kv_head, a.k_cache, a.k);
      const std::vector<double> values = gather(a, sequence, kv_head, a.v_cache, a.v);
      for (int32_t i = 0; i < sequence.rows; ++i) {
        const float* q = a.q.data + (sequence.first_row + i) * a.q.stride + int64_t{head} * a.head_dim;
        const int32_t position = sequence.past + i;
        const auto element = [&](const std::vector<double>& rows, int64_t key, int column) {
          return rows[static_cast<size_t>(key * a.head_dim + column)];
        };
        const attention_test::HeadOutput wanted = attention_test::attend(
            a.head_dim, a.scale, attention_test::first_key(position, a.window), position,
            [&](int column) { return q[column]; }, [&](int64_t key, int column) { return element(keys, key, column); },
            [&](int64_t key, int column) { return element(values, key, column); });
        std::copy(wanted.values.begin(), wanted.values.end(),
                  out + ((sequence.first_row + i) * a.heads + head) * a.head_dim);
      }
    }
  }
}

// --- Batches on a paged cache.

struct Shape {
  int heads = 4, kv_heads = 4, head_dim = 64;
  int window = 0, block_size = 16;
  DType type = DType::f32;
};

// A cache with room for several sequences, and their tokens' queries, keys and values as one long random matrix each.
class Fixture {
 public:
  Fixture(const Shape& shape, const std::vector<int>& lengths, unsigned seed)
      : shape_(shape), generator_(seed), sequences_(lengths, shape.block_size, generator_) {
    std::normal_distribution<float> normal(0.0f, 1.0f);
    // A slot that nobody wrote is NaN: reading one would show.
    const size_t elements = static_cast<size_t>(sequences_.blocks) * static_cast<size_t>(shape.kv_heads) *
                            static_cast<size_t>(shape.block_size) * static_cast<size_t>(shape.head_dim);
    k_cache.assign(elements * byte_size(shape.type), 0xff);
    v_cache.assign(elements * byte_size(shape.type), 0xff);
    for (std::vector<float>* matrix : {&q, &k, &v}) {
      const int columns = (matrix == &q ? shape.heads : shape.kv_heads) * shape.head_dim;
      matrix->resize(static_cast<size_t>(sequences_.tokens) * static_cast<size_t>(columns));
      for (float& value : *matrix) value = normal(generator_);
    }
    for (float& value : q) value *= 2;  // sharper than uniform weights
  }

  // Runs one step of tokens [past, past + rows) of each sequence and returns its output rows. With a reference,
  // compares.
  std::vector<float> step(const std::vector<Part>& parts, ThreadPool& pool, double tolerance = 0) {
    const Batch batch = sequences_.batch(parts);
    Rows rows[3];
    std::vector<float> packed[3];
    const std::vector<float>* sources[3] = {&q, &k, &v};
    for (size_t s = 0; s < parts.size(); ++s) {
      for (int i = 0; i < parts[s].rows; ++i) {
        for (int operand = 0; operand < 3; ++operand) {
          const int64_t columns = (operand == 0 ? shape_.heads : shape_.kv_heads) * shape_.head_dim;
          const float* from = sources[operand]->data() + (sequences_.first_token[s] + parts[s].past + i) * columns;
          packed[operand].insert(packed[operand].end(), from, from + columns);
          packed[operand].insert(packed[operand].end(), 5, NAN);  // a stride wider than the row
        }
      }
    }
    for (int operand = 0; operand < 3; ++operand) {
      const int64_t columns = (operand == 0 ? shape_.heads : shape_.kv_heads) * shape_.head_dim;
      rows[operand] = {packed[operand].data(), batch.rows(), columns, columns + 5};
    }
    const int64_t columns = static_cast<int64_t>(shape_.heads) * shape_.head_dim;
    std::vector<float> out(static_cast<size_t>(batch.rows() * (columns + 2)), -7.0f);
    Attention a;
    a.q = rows[0], a.k = rows[1], a.v = rows[2];
    a.out = out.data();
    a.out_stride = columns + 2;
    a.k_cache = k_cache.data(), a.v_cache = v_cache.data();
    a.cache_type = shape_.type;
    a.block_size = shape_.block_size;
    a.heads = shape_.heads, a.kv_heads = shape_.kv_heads, a.head_dim = shape_.head_dim;
    a.scale = 1 / std::sqrt(static_cast<float>(shape_.head_dim));
    a.window = shape_.window;
    int positions = 0;
    for (const SequenceSpan& sequence : batch.sequences) positions = std::max(positions, sequence.past + sequence.rows);
    const size_t bytes =
        attention_scratch_bytes(shape_.heads, shape_.kv_heads, shape_.head_dim, batch.rows(), positions);
    const HostMemory scratch = HostMemory::allocate(bytes, "cpu");
    attention(a, batch, {scratch.data(), bytes}, pool);

    std::vector<float> dense;
    for (int64_t r = 0; r < batch.rows(); ++r) {
      const float* row = out.data() + r * (columns + 2);
      CHECK(row[columns] == -7.0f);
      CHECK(row[columns + 1] == -7.0f);
      dense.insert(dense.end(), row, row + columns);
    }
    if (tolerance > 0) {
      std::vector<double> wanted(dense.size());
      attention_reference(a, batch, wanted.data());
      double worst = 0;
      for (size_t i = 0; i < dense.size(); ++i) {
        const double error = std::abs(dense[i] - wanted[i]);
        worst = error <= worst ? worst : error;  // NaN becomes the worst
      }
      CHECK_MESSAGE(worst <= tolerance, name(instruction_set())
                                            << ", heads " << shape_.heads << "/" << shape_.kv_heads << " x "
                                            << shape_.head_dim << ", type " << static_cast<int>(shape_.type)
                                            << ", window " << shape_.window << ", block size " << shape_.block_size
                                            << ": error " << worst);
    }
    return dense;
  }

  const std::vector<int32_t>& table(size_t sequence) const { return sequences_.tables[sequence]; }

  std::vector<float> q, k, v;
  std::vector<uint8_t> k_cache, v_cache;

 private:
  Shape shape_;
  std::mt19937 generator_;
  Sequences sequences_;
};

constexpr double tolerance = 8e-6;
constexpr int head_counts[][2] = {{4, 4}, {8, 2}, {4, 1}, {14, 2}};

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double worst = a.size() == b.size() ? 0 : INFINITY;
  for (size_t i = 0; i < a.size(); ++i) {
    const double error = std::abs(static_cast<double>(a[i]) - b[i]);
    worst = error <= worst ? worst : error;
  }
  return worst;
}

}  // namespace

// Prompts of several lengths in one batch, then one more token each, then a mixed step.
TEST(attention_equals_fp64_for_prompts_and_decoding) {
  constexpr DType types[] = {DType::f32, DType::f16, DType::bf16};
  on_every_instruction_set([&] {
    unsigned seed = 0;
    for (const auto& counts : head_counts) {
      for (const int head_dim : {32, 48, 64, 80, 128}) {
        Shape shape;
        shape.heads = counts[0], shape.kv_heads = counts[1], shape.head_dim = head_dim;
        shape.type = types[seed % 3];
        shape.block_size = seed % 2 == 0 ? 16 : 7;
        Fixture fixture(shape, {70, 1 + 4, 33}, ++seed);
        fixture.step({{0, 67}, {0, 1}, {0, 30}}, pool(), tolerance);
        fixture.step({{67, 1}, {1, 1}, {30, 1}}, pool(), tolerance);
        fixture.step({{68, 2}, {2, 3}, {31, 1}}, pool(), tolerance);
      }
    }
  });
}

TEST(attention_takes_odd_head_dims) {
  on_every_instruction_set([] {
    for (const int head_dim : {1, 3, 17, 20, 31, 100}) {
      for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
        Shape shape;
        shape.heads = 6, shape.kv_heads = 2, shape.head_dim = head_dim, shape.type = type;
        Fixture fixture(shape, {40}, 77);
        fixture.step({{0, 38}}, pool(), tolerance);
        fixture.step({{38, 1}}, pool(), tolerance);
        fixture.step({{39, 1}}, pool(), tolerance);
      }
    }
  });
}

TEST(attention_applies_windows) {
  on_every_instruction_set([] {
    for (const int window : {1, 2, 15, 64, 100, 1000}) {
      Shape shape;
      shape.heads = 8, shape.kv_heads = 2, shape.head_dim = 32, shape.window = window;
      Fixture fixture(shape, {330, 20}, 5);
      fixture.step({{0, 200}, {0, 10}}, pool(), tolerance);
      fixture.step({{200, 100}, {10, 2}}, pool(), tolerance);
      fixture.step({{300, 1}, {12, 1}}, pool(), tolerance);
      fixture.step({{301, 7}, {13, 1}}, pool(), tolerance);
    }
  });
}

// What lies outside the window is not even read: those slots may be anybody's by now.
TEST(attention_does_not_read_outside_the_window) {
  on_every_instruction_set([] {
    Shape shape;
    shape.window = 50;
    Fixture fixture(shape, {400}, 6);
    const std::vector<float> before = (fixture.step({{0, 390}}, pool()), fixture.step({{390, 1}}, pool(), tolerance));
    const size_t block_bytes = 4 * 16 * 64 * sizeof(float);
    for (size_t block = 0; block < 340 / 16; ++block) {
      for (std::vector<uint8_t>* cache : {&fixture.k_cache, &fixture.v_cache}) {
        std::memset(cache->data() + static_cast<size_t>(fixture.table(0)[block]) * block_bytes, 0xff, block_bytes);
      }
    }
    CHECK(fixture.step({{390, 1}}, pool()) == before);
  });
}

// Long contexts are split along the keys, for one row and for a few.
TEST(attention_splits_long_contexts) {
  on_every_instruction_set([] {
    for (const DType type : {DType::f32, DType::f16}) {
      Shape shape;
      shape.heads = 2, shape.kv_heads = 1, shape.head_dim = 20, shape.type = type;
      Fixture fixture(shape, {1200, 700}, 7);
      fixture.step({{0, 1100}, {0, 600}}, pool());
      fixture.step({{1100, 1}, {600, 1}}, pool(), tolerance);
      fixture.step({{1101, 40}, {601, 2}}, pool(), tolerance);
    }
  });
}

TEST(attention_in_chunks_equals_attention_at_once) {
  on_every_instruction_set([] {
    Shape shape;
    shape.heads = 8, shape.kv_heads = 2, shape.head_dim = 80, shape.type = DType::f16;
    Fixture whole(shape, {300}, 8), chunked(shape, {300}, 8);
    const std::vector<float> wanted = whole.step({{0, 300}}, pool(), tolerance);
    std::vector<float> got;
    int past = 0;
    for (const int rows : {1, 16, 99, 3, 120, 61}) {
      const std::vector<float> part = chunked.step({{past, rows}}, pool());
      got.insert(got.end(), part.begin(), part.end());
      past += rows;
    }
    CHECK(past == 300);
    CHECK_MESSAGE(largest_difference(got, wanted) < tolerance, largest_difference(got, wanted));
    CHECK(whole.k_cache == chunked.k_cache);
    CHECK(whole.v_cache == chunked.v_cache);
  });
}

TEST(attention_result_does_not_depend_on_the_threads) {
  Shape shape;
  shape.heads = 8, shape.kv_heads = 2, shape.type = DType::bf16;
  std::vector<float> first;
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    Fixture fixture(shape, {900, 30}, 9);
    std::vector<float> all = fixture.step({{0, 800}, {0, 29}}, pool);
    for (const std::vector<float>& part : {fixture.step({{800, 1}, {29, 1}}, pool), fixture.step({{801, 20}}, pool)}) {
      all.insert(all.end(), part.begin(), part.end());
    }
    if (first.empty()) first = all;
    CHECK(all == first);
  }
}

TEST(attention_result_does_not_depend_on_the_rest_of_the_batch) {
  Shape shape;
  shape.heads = 8, shape.kv_heads = 2, shape.head_dim = 48;
  Fixture alone(shape, {800, 90}, 15), together(shape, {800, 90}, 15);
  for (const auto& part : {Part{0, 700}, Part{700, 1}, Part{701, 30}}) {
    const std::vector<float> wanted = alone.step({part, {0, 0}}, pool());
    std::vector<float> got = together.step({part, {part.past / 10, part.rows / 10}}, pool());
    got.resize(wanted.size());
    CHECK(got == wanted);
  }
}

// Five sequences whose keys are split have more partial results than the scratch has room for.
TEST(attention_takes_sequences_in_waves_where_the_scratch_is_short) {
  Shape shape;
  shape.heads = 16, shape.kv_heads = 16, shape.head_dim = 16, shape.type = DType::f16;
  const std::vector<int> lengths(5, 2100);
  Fixture alone(shape, lengths, 16), together(shape, lengths, 16);
  for (size_t s = 0; s < lengths.size(); ++s) {
    std::vector<Part> part(lengths.size(), {0, 0});
    part[s] = {0, 2099};
    alone.step(part, pool());
    together.step(part, pool());
  }
  std::vector<float> wanted;
  for (size_t s = 0; s < lengths.size(); ++s) {
    std::vector<Part> part(lengths.size(), {0, 0});
    part[s] = {2099, 1};
    const std::vector<float> row = alone.step(part, pool());
    wanted.insert(wanted.end(), row.begin(), row.end());
  }
  CHECK(together.step(std::vector<Part>(lengths.size(), {2099, 1}), pool()) == wanted);
}

TEST(attention_lays_the_cache_out_as_documented) {
  Shape shape;
  shape.heads = 2, shape.kv_heads = 2, shape.head_dim = 5, shape.block_size = 4;
  Fixture fixture(shape, {11}, 10);
  fixture.step({{0, 11}}, pool(), tolerance);
  for (int position = 0; position < 11; ++position) {
    for (int head = 0; head < 2; ++head) {
      const size_t row = ((static_cast<size_t>(fixture.table(0)[position / 4]) * 2 + head) * 4 + position % 4) * 5;
      const size_t token = static_cast<size_t>(position * 2 + head) * 5;
      CHECK(std::memcmp(&fixture.k_cache[row * 4], &fixture.k[token], 20) == 0);
      CHECK(std::memcmp(&fixture.v_cache[row * 4], &fixture.v[token], 20) == 0);
    }
  }
}

TEST(attention_saturates_sixteen_bit_caches_and_hides_no_infinity) {
  on_every_instruction_set([] {
    for (const DType type : {DType::f16, DType::bf16}) {
      Shape shape;
      shape.heads = 1, shape.kv_heads = 1, shape.head_dim = 20, shape.type = type;
      Fixture fixture(shape, {2}, 11);
      const float infinity = std::numeric_limits<float>::infinity();
      fixture.v[0] = 1e30f, fixture.v[1] = -3e38f, fixture.v[18] = -infinity, fixture.v[19] = infinity;
      const std::vector<float> out = fixture.step({{0, 1}}, pool());
      const float largest = type == DType::f16 ? 65504.0f : bf16_to_float(0x7f7f);
      CHECK(out[0] == (type == DType::f16 ? largest : bf16_to_float(float_to_bf16(1e30f))));
      CHECK(out[1] == (type == DType::f16 ? -largest : bf16_to_float(float_to_bf16(-3e38f))));
      CHECK(std::isnan(out[18]));
      CHECK(std::isnan(out[19]));
    }
  });
}

// Scores in the thousands, and rows whose first tiles lie wholly under the mask.
TEST(attention_survives_extreme_scores) {
  on_every_instruction_set([] {
    Shape shape;
    shape.heads = 8, shape.kv_heads = 2, shape.head_dim = 32;
    Fixture fixture(shape, {150}, 12);
    for (float& value : fixture.q) value *= 300;
    const std::vector<float> out = fixture.step({{0, 140}}, pool(), 2e-3);
    CHECK(std::all_of(out.begin(), out.end(), [](float value) { return std::isfinite(value); }));
    fixture.step({{140, 1}}, pool(), 2e-3);
  });
}

TEST(attention_runs_in_several_stages_at_once) {
  Shape shape;
  shape.heads = 8, shape.kv_heads = 2, shape.head_dim = 48, shape.type = DType::f16;
  ThreadPool shared(3);
  Fixture alone(shape, {600}, 13);
  const std::vector<float> prompt = alone.step({{0, 590}}, shared), token = alone.step({{590, 1}}, shared);
  std::atomic<int> wrong{0};
  std::vector<std::thread> stages;
  for (int stage = 0; stage < 4; ++stage) {
    stages.emplace_back([&] {
      Fixture own(shape, {600}, 13);
      if (own.step({{0, 590}}, shared) != prompt) ++wrong;
      for (int again = 0; again < 20; ++again) {
        if (own.step({{590, 1}}, shared) != token) ++wrong;
      }
    });
  }
  for (std::thread& stage : stages) stage.join();
  CHECK(wrong == 0);
}

TEST(attention_of_no_rows_does_nothing) {
  Fixture fixture(Shape{}, {5, 5}, 14);
  CHECK(fixture.step({}, pool()).empty());
  CHECK(fixture.step({{0, 0}, {0, 2}}, pool(), tolerance).size() == 2 * 4 * 64);
}
