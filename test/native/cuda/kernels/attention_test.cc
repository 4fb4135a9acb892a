// Attention over a paged KV cache on the device, against fp64 loops over all tokens.
#include "layer/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "engine/error.h"
#include "primitives/numbers.h"
#include "support/attention_cases.h"
#include "support/check.h"
#include "support/kernel_numbers.h"
#include "support/kernel_testing.h"

using namespace billfish;
using namespace billfish::BILLFISH_TARGET;
using attention_test::Part, attention_test::Sequences;

namespace {

struct Case {
  int heads = 4, kv_heads = 4, head_dim = 64;
  int window = 0, block_size = 32;
  float sharpness = 1;  // of the weights: queries are multiplied by it

  AttentionShape shape() const { return {heads, kv_heads, head_dim, window}; }
};

// A device with a cache, and the queries, keys and values of all tokens of some sequences. E: half or bfloat16.
template <class E>
class Fixture {
 public:
  static constexpr DType type = std::is_same_v<E, half> ? DType::f16 : DType::bf16;
  static constexpr int64_t gap = 8;

  Fixture(const Case& c, const std::vector<int>& lengths, unsigned seed)
      : c_(c), stream_(Device::at(0)), generator_(seed), sequences_(lengths, c.block_size, generator_) {
    const int32_t blocks = sequences_.blocks, tokens = sequences_.tokens;
    // A slot that nobody wrote is NaN: computing with one would show.
    const std::vector<uint16_t> nothing(static_cast<size_t>(blocks * c.kv_heads * c.block_size * c.head_dim), 0xffff);
    key_cache_ = upload(stream_, nothing);
    value_cache_ = upload(stream_, nothing);
    scratch_ = DeviceMemory(stream_.device(), attention_scratch_bytes(c.shape()));
    q = narrow(type, random_floats(int64_t{tokens} * c.heads * c.head_dim, seed + 1, c.sharpness));
    k = narrow(type, random_floats(int64_t{tokens} * c.kv_heads * c.head_dim, seed + 2));
    v = narrow(type, random_floats(int64_t{tokens} * c.kv_heads * c.head_dim, seed + 3));
    const BatchLimits limits{std::max(tokens, 4), static_cast<int32_t>(lengths.size()), blocks};
    batch_memory_ = DeviceMemory(stream_.device(), gpu::BatchLayout(limits, {}, {c.shape()}).bytes);
    batch_ = std::make_unique<DeviceBatch>(stream_.device(), batch_memory_.data(), limits, std::vector<RopeSpec>{},
                                           std::vector<AttentionShape>{c.shape()});
  }

  // Runs a step, compares with the reference, returns the output.
  std::vector<uint16_t> step(const std::vector<Part>& parts) {
    const Batch batch = sequences_.batch(parts);
    batch_->upload(stream_, batch);
    const DeviceMemory queries = rows_of(q, parts, c_.heads), keys = rows_of(k, parts, c_.kv_heads);
    const DeviceMemory values = rows_of(v, parts, c_.kv_heads);
    const DeviceMemory out = upload(stream_, std::vector<uint16_t>(queries.bytes() / 2, 0x1234));
    write_and_attend(batch.rows(), queries, keys, values, out);
    const std::vector<uint16_t> dense = without_gaps(download<uint16_t>(stream_, out), c_.heads, 0x1234);
    compare(parts, dense);
    return dense;
  }

  // Puts the parts' keys and values into the cache.
  void write(const std::vector<Part>& parts) {
    const Batch batch = sequences_.batch(parts);
    batch_->upload(stream_, batch);
    const DeviceMemory keys = rows_of(k, parts, c_.kv_heads), values = rows_of(v, parts, c_.kv_heads);
    write_kv<E>(stream_, *batch_, matrix<const E>(keys, batch.rows(), c_.kv_heads),
                matrix<const E>(values, batch.rows(), c_.kv_heads), cache());
    stream_.synchronize();
  }

  void write_and_attend(int64_t rows, const DeviceMemory& queries, const DeviceMemory& keys, const DeviceMemory& values,
                        const DeviceMemory& out) {
    write_kv<E>(stream_, *batch_, matrix<const E>(keys, rows, c_.kv_heads), matrix<const E>(values, rows, c_.kv_heads),
                cache());
    attention<E>(stream_, *batch_, 0, matrix<const E>(queries, rows, c_.heads), cache(), scale(), scratch_.data(),
                 matrix<E>(out, rows, c_.heads));
  }

  void compare(const std::vector<Part>& parts, const std::vector<uint16_t>& got) const {
    double worst = 0;
    size_t at = 0;
    for (size_t s = 0; s < parts.size(); ++s) {
      for (int i = 0; i < parts[s].rows; ++i) {
        for (int head = 0; head < c_.heads; ++head)
          worst = std::max(worst, compare(s, parts[s].past + i, head, &got[at]));
        at += static_cast<size_t>(c_.heads * c_.head_dim);
      }
    }
    CHECK_MESSAGE(worst <= 1, "heads " << c_.heads << "/" << c_.kv_heads << " x " << c_.head_dim << ", type "
                                       << static_cast<int>(type) << ", window " << c_.window << ", block size "
                                       << c_.block_size << ": error " << worst << " times what rounding explains");
  }

  KvCache<E> cache() const {
    return {key_cache_.as<E>(), value_cache_.as<E>(), c_.block_size, c_.kv_heads, c_.head_dim};
  }
  float scale() const { return 1 / std::sqrt(static_cast<float>(c_.head_dim)); }
  template <class T>
  Matrix<T> matrix(const DeviceMemory& memory, int64_t rows, int64_t heads) const {
    return {memory.as<T>(), rows, heads * c_.head_dim, heads * c_.head_dim + gap};
  }
  // The parts' rows on the device, with a gap of NaN behind each.
  DeviceMemory rows_of(const std::vector<uint16_t>& tokens, const std::vector<Part>& parts, int heads) {
    std::vector<uint16_t> rows;
    const auto columns = static_cast<int64_t>(heads * c_.head_dim);
    for (size_t s = 0; s < parts.size(); ++s) {
      for (int i = 0; i < parts[s].rows; ++i) {
        const auto from = tokens.begin() + (sequences_.first_token[s] + parts[s].past + i) * columns;
        rows.insert(rows.end(), from, from + columns);
        rows.insert(rows.end(), gap, 0xffff);
      }
    }
    return upload(stream_, rows);
  }
  std::vector<uint16_t> without_gaps(const std::vector<uint16_t>& rows, int heads, uint16_t gap_value) const {
    std::vector<uint16_t> dense;
    const auto columns = static_cast<size_t>(heads * c_.head_dim), stride = columns + gap;
    for (size_t i = 0; i < rows.size(); ++i) {
      if (i % stride < columns) {
        dense.push_back(rows[i]);
      } else {
        CHECK(rows[i] == gap_value);
      }
    }
    return dense;
  }

  std::vector<uint16_t> q, k, v;  // of all tokens
  const Sequences& sequences() const { return sequences_; }
  const DeviceMemory& key_cache() const { return key_cache_; }
  Stream& stream() { return stream_; }
  DeviceBatch& batch() { return *batch_; }

 private:
  // The largest error of a head's output, in units of what rounding explains: the weights and the output are rounded to
  // the type, sums and exponents to fp32.
  double compare(size_t sequence, int position, int head, const uint16_t* got_row) const {
    const auto element = [&](const std::vector<uint16_t>& tokens, int64_t token, int heads, int h, int c) {
      return static_cast<double>(widen(type, tokens[static_cast<size_t>((token * heads + h) * c_.head_dim + c)]));
    };
    const int kv_head = head / (c_.heads / c_.kv_heads);
    const int64_t first = sequences_.first_token[sequence];
    const attention_test::HeadOutput wanted = attention_test::attend(
        c_.head_dim, scale(), attention_test::first_key(position, c_.window), position,
        [&](int column) { return element(q, first + position, c_.heads, head, column); },
        [&](int64_t key, int column) { return element(k, first + key, c_.kv_heads, kv_head, column); },
        [&](int64_t key, int column) { return element(v, first + key, c_.kv_heads, kv_head, column); });
    double worst = 0;
    for (int c = 0; c < c_.head_dim; ++c) {
      const double value = wanted.values[static_cast<size_t>(c)], magnitude = wanted.magnitudes[static_cast<size_t>(c)];
      const double allowed =
          rounding(type) * (magnitude + std::abs(value)) + (1e-6 + 1e-6 * wanted.largest_score) * (magnitude + 1e-2);
      const double error = std::abs(widen(type, got_row[head * c_.head_dim + c]) - value) / allowed;
      worst = error <= worst ? worst : error;  // NaN becomes the worst
    }
    return std::isnan(worst) ? std::numeric_limits<double>::infinity() : worst;
  }

  Case c_;
  Stream stream_;
  std::mt19937 generator_;
  Sequences sequences_;
  DeviceMemory key_cache_, value_cache_, scratch_, batch_memory_;
  std::unique_ptr<DeviceBatch> batch_;
};

// One step after the other, in every schedule, and in the two types by turns. The parts `cached` are in the cache
// already.
void check_steps(const Case& c, const std::vector<int>& lengths, const std::vector<std::vector<Part>>& steps,
                 const std::vector<Part>& cached = {}) {
  static unsigned seed = 0;
  ++seed;
  const auto check = [&]<class E>(E) {
    Fixture<E> fixture(c, lengths, seed);
    if (!cached.empty()) fixture.write(cached);
    for (const auto& parts : steps) fixture.step(parts);
  };
  in_every_schedule([&] { seed % 2 == 0 ? check(half{}) : check(bfloat16{}); });
}

}  // namespace

// Prompts of several lengths in one batch, then one more token each, then a mixed step.
TEST(cuda_attention_equals_fp64_for_prompts_and_decoding) {
  for (const auto& [heads, kv_heads] : {std::pair{2, 2}, std::pair{6, 2}, std::pair{8, 1}, std::pair{14, 2}}) {
    check_steps({.heads = heads, .kv_heads = kv_heads, .head_dim = 32, .block_size = kv_heads == 1 ? 16 : 32},
                {72, 5, 35}, {{{0, 67}, {0, 1}, {0, 30}}, {{67, 1}, {1, 1}, {30, 1}}, {{68, 2}, {2, 3}, {31, 1}}});
  }
}

TEST(cuda_attention_takes_many_head_dims) {
  for (const int head_dim : {8, 16, 24, 48, 64, 80, 128, 192, 256}) {
    check_steps({.heads = 3, .kv_heads = 1, .head_dim = head_dim}, {40}, {{{0, 38}}, {{38, 1}}, {{39, 1}}});
  }
}

// Groups of more heads than a decode tile has rows take the other kernel for single tokens, too.
TEST(cuda_attention_takes_a_group_of_more_than_16_heads) {
  check_steps({.heads = 20, .kv_heads = 1, .head_dim = 16}, {30}, {{{0, 20}}, {{20, 1}}, {{21, 2}}});
}

TEST(cuda_attention_applies_windows) {
  for (const int window : {1, 2, 15, 64, 100, 1000}) {
    check_steps({.heads = 4, .kv_heads = 2, .head_dim = 16, .window = window}, {180, 20},
                {{{0, 100}, {0, 10}}, {{100, 40}, {10, 2}}, {{140, 1}, {12, 1}}, {{141, 12}, {13, 1}}});
  }
}

// Two rows whose windows begin at either side of a run of 16 keys.
TEST(cuda_attention_applies_windows_to_rows_of_one_tile) {
  check_steps({.heads = 4, .kv_heads = 2, .head_dim = 16, .window = 64}, {100},
              {{{0, 78}}, {{78, 1}}, {{79, 2}}, {{81, 4}}});
}

// Long contexts are split along the keys, for one row and for many.
TEST(cuda_attention_splits_long_contexts) {
  check_steps({.heads = 2, .kv_heads = 1, .head_dim = 16}, {1300, 700}, {{{1100, 1}, {600, 1}}, {{1101, 40}, {601, 2}}},
              {{0, 1100}, {0, 600}});
  // Heads so wide that a block merges only four parts at a time.
  check_steps({.heads = 1, .kv_heads = 1, .head_dim = 128}, {700}, {{{690, 1}}}, {{0, 690}});
  check_steps({.heads = 2, .kv_heads = 1, .head_dim = 24, .window = 700}, {1300},
              {{{1100, 1}}, {{1101, 40}}, {{1141, 1}}}, {{0, 1100}});
}

TEST(cuda_attention_survives_extreme_scores) {
  check_steps({.heads = 4, .kv_heads = 2, .head_dim = 32, .sharpness = 300}, {150}, {{{0, 140}}, {{140, 1}}});
}

// What lies outside of the window is not even read: those slots may be anybody's by now.
TEST(cuda_attention_does_not_read_outside_the_window) {
  Fixture<half> fixture({.heads = 4, .kv_heads = 2, .head_dim = 16, .window = 50, .block_size = 16}, {400}, 6);
  fixture.step({{0, 390}});
  const std::vector<uint16_t> before = fixture.step({{390, 1}});
  const size_t block_bytes = 2 * 16 * 16 * sizeof(uint16_t);
  for (size_t block = 0; block < 340 / 16; ++block) {
    for (half* cache : {fixture.cache().keys, fixture.cache().values}) {
      fixture.stream().fill(reinterpret_cast<char*>(cache) + fixture.sequences().tables[0][block] * block_bytes, 0xff,
                            block_bytes);
    }
  }
  CHECK(fixture.step({{390, 1}}) == before);
}

TEST(cuda_attention_in_chunks_equals_attention_at_once) {
  const Case c{.heads = 4, .kv_heads = 2, .head_dim = 32};
  Fixture<bfloat16> whole(c, {200}, 8), chunked(c, {200}, 8);
  whole.step({{0, 200}});
  int past = 0;
  for (const int rows : {1, 16, 64, 3, 100, 16}) {
    chunked.step({{past, rows}});
    past += rows;
  }
  CHECK(past == 200);
  CHECK(download<uint16_t>(whole.stream(), whole.key_cache()) ==
        download<uint16_t>(chunked.stream(), chunked.key_cache()));
}

// As long as the decoding sequences' keys together are no more than the parts wanted times 128, what a sequence gets
// does not depend on the others of the step, bit for bit: others that decode, and prompts.
TEST(cuda_attention_is_the_same_alone_and_among_others) {
  in_every_schedule([] {
    const Case c{.heads = 4, .kv_heads = 2, .head_dim = 32};
    Fixture<half> fixture(c, {700, 300, 90, 60}, 21);
    fixture.write({{0, 690}, {0, 299}, {0, 80}, {0, 0}});
    const std::vector<Part> parts = {{690, 1}, {299, 1}, {80, 2}, {0, 50}};
    const std::vector<uint16_t> together = fixture.step(parts);
    auto expected = together.begin();
    for (size_t s = 0; s < parts.size(); ++s) {
      std::vector<Part> alone(parts.size(), {0, 0});
      alone[s] = parts[s];
      const std::vector<uint16_t> got = fixture.step(alone);
      CHECK(std::equal(got.begin(), got.end(), expected));
      expected += static_cast<int64_t>(got.size());
    }
    CHECK(expected == together.end());
  });
}

TEST(cuda_attention_lays_the_cache_out_as_documented) {
  const Case c{.heads = 2, .kv_heads = 2, .head_dim = 8, .block_size = 16};
  Fixture<half> fixture(c, {37}, 10);
  fixture.step({{0, 37}});
  const std::vector<uint16_t> cache = download<uint16_t>(fixture.stream(), fixture.key_cache());
  for (size_t position = 0; position < 37; ++position) {
    for (size_t head = 0; head < 2; ++head) {
      const auto block = static_cast<size_t>(fixture.sequences().tables[0][position / 16]);
      for (size_t i = 0; i < 8; ++i) {
        CHECK(cache[((block * 2 + head) * 16 + position % 16) * 8 + i] == fixture.k[(position * 2 + head) * 8 + i]);
      }
    }
  }
}

TEST(cuda_attention_caches_infinities_as_nan) {
  Fixture<half> fixture({.heads = 1, .kv_heads = 1, .head_dim = 8, .block_size = 16}, {2}, 10);
  const Batch batch = fixture.sequences().batch({{0, 1}});
  fixture.batch().upload(fixture.stream(), batch);
  const std::vector<uint16_t> row = {0x7c00, 0xfc00, 0x7e00, 0, 0x3c00, 0x7bff, 0x8000, 1};
  const DeviceMemory rows = upload(fixture.stream(), row);
  write_kv<half>(fixture.stream(), fixture.batch(), {rows.as<half>(), 1, 8, 8}, {rows.as<half>(), 1, 8, 8},
                 fixture.cache());
  const std::vector<uint16_t> cache = download<uint16_t>(fixture.stream(), fixture.key_cache());
  const uint16_t* slot = &cache[static_cast<size_t>(fixture.sequences().tables[0][0]) * 16 * 8];
  for (size_t i = 0; i < 3; ++i) CHECK(std::isnan(f16_to_float(slot[i])));
  for (size_t i = 3; i < 8; ++i) CHECK(slot[i] == row[i]);
}

// A recorded decode step does later ones of as many sequences, which have become longer meanwhile.
TEST(cuda_attention_runs_in_a_recorded_graph) {
  const Case c{.heads = 8, .kv_heads = 2, .head_dim = 16};
  Fixture<half> fixture(c, {500, 60}, 11);
  fixture.step({{0, 450}, {0, 20}});
  Stream& stream = fixture.stream();
  const std::vector<uint16_t> row(static_cast<size_t>(2 * (8 * 16 + 8)));
  const DeviceMemory queries = upload(stream, row), keys = upload(stream, row), values = upload(stream, row);
  const DeviceMemory out = upload(stream, row);
  fixture.batch().upload(stream, fixture.sequences().batch({{450, 1}, {20, 1}}));
  const std::vector<int32_t> provided = fixture.batch().provide_for_more();
  CHECK(provided == (std::vector<int32_t>{8, 0, 1}));
  stream.synchronize();
  const Graph graph = stream.capture([&] { fixture.write_and_attend(2, queries, keys, values, out); });
  for (const auto& parts : {std::vector<Part>{{450, 1}, {20, 1}}, std::vector<Part>{{451, 1}, {21, 1}}}) {
    const Batch batch = fixture.sequences().batch(parts);
    fixture.batch().upload(stream, batch);
    CHECK(fixture.batch().provide_for_more() == provided);
    const auto refresh = [&](const DeviceMemory& to, const std::vector<uint16_t>& tokens, int heads) {
      const DeviceMemory rows = fixture.rows_of(tokens, parts, heads);
      stream.copy(to.data(), rows.data(), rows.bytes());
      stream.synchronize();
    };
    refresh(queries, fixture.q, c.heads);
    refresh(keys, fixture.k, c.kv_heads);
    refresh(values, fixture.v, c.kv_heads);
    stream.launch(graph);
    const std::vector<uint16_t> got = download<uint16_t>(stream, out);
    std::vector<uint16_t> dense;
    for (size_t i = 0; i < got.size(); ++i) {
      if (i % (8 * 16 + 8) < 8 * 16) dense.push_back(got[i]);
    }
    fixture.compare(parts, dense);
  }
}

TEST(cuda_attention_refuses_shapes_without_kernels) {
  CHECK_THROWS(Fixture<half>({.heads = 1, .kv_heads = 1, .head_dim = 264}, {4}, 1).step({{0, 2}}), "UNSUPPORTED_MODEL");
  CHECK_THROWS(Fixture<half>({.heads = 1, .kv_heads = 1, .head_dim = 8, .block_size = 8}, {4}, 1).step({{0, 2}}),
               "UNSUPPORTED_MODEL");
}
