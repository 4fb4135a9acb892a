// What the host computes for a batch's kernels: the cut of attention into tiles and parts, the batch on the device, the
// rotary tables; and the rotary embedding itself.
#include "layer/batch.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <vector>

#include "cuda/memory/attention_plan.h"
#include "engine/error.h"
#include "primitives/numbers.h"
#include "support/check.h"
#include "support/kernel_numbers.h"
#include "support/kernel_testing.h"

using namespace billfish;
using namespace billfish::BILLFISH_TARGET;
using gpu::AttentionCapacity, gpu::AttentionPlan, gpu::attention_capacity, gpu::attention_scratch_bytes;
using gpu::plan_attention;

namespace {

struct Sequence {
  int32_t past, rows;
  double rope_base = 0;
};

// Block tables count on from 100, 101, ...; blocks have 32 positions.
Batch make_batch(const std::vector<Sequence>& sequences) {
  Batch batch;
  for (int32_t i = 0; i < 100'000; ++i) batch.block_tables.push_back(100 + i);
  const int32_t* blocks = batch.block_tables.data();
  for (const Sequence& sequence : sequences) {
    SequenceSpan span;
    span.first_row = batch.rows();
    span.past = sequence.past;
    span.rows = sequence.rows;
    span.blocks = blocks;
    span.block_count = (sequence.past + sequence.rows + 31) / 32;
    span.rope_base = sequence.rope_base;
    blocks += span.block_count;
    for (int32_t i = 0; i < span.rows; ++i) {
      batch.tokens.push_back(7 * batch.rows());
      batch.positions.push_back(span.past + i);
    }
    batch.sequences.push_back(span);
  }
  return batch;
}

// Every packed row sees each of its keys in one item, and none twice; parts and merges belong together.
void check_plan(const Batch& batch, const AttentionShape& shape, const BatchLimits& limits) {
  const AttentionPlan plan = plan_attention(batch, shape);
  const AttentionCapacity most = attention_capacity(shape, limits.max_rows, limits.max_sequences);
  CHECK(static_cast<int64_t>(plan.decode.size()) <= most.decode_items);
  CHECK(static_cast<int64_t>(plan.prefill.size()) <= most.prefill_items);
  CHECK(static_cast<int64_t>(plan.merges.size()) <= most.merges);
  struct Covered {
    int64_t keys = 0;
    int32_t end = 0;
    std::vector<int32_t> partials;
  };
  std::map<std::pair<int32_t, int32_t>, Covered> tiles;  // by sequence and first row
  int32_t units = 0;
  for (const auto* items : {&plan.decode, &plan.prefill}) {
    const int32_t tile_rows = items == &plan.decode ? decode_tile_rows : prefill_tile_rows;
    for (const AttentionItem& item : *items) {
      const SequenceSpan& span = batch.sequences[static_cast<size_t>(item.sequence)];
      const int32_t packed = span.rows * shape.group();
      CHECK((packed <= decode_tile_rows) == (items == &plan.decode));
      CHECK(item.first_row % tile_rows == 0);
      CHECK(item.first_row < packed);
      Covered& tile = tiles[{item.sequence, item.first_row}];
      const int32_t first = span.past + item.first_row / shape.group();
      const int32_t last = span.past + (std::min(packed, item.first_row + tile_rows) - 1) / shape.group();
      const int32_t begin = shape.window > 0 ? std::max(0, first - shape.window + 1) : 0;
      CHECK(item.key_begin == (tile.keys == 0 ? begin : tile.end));  // one after the other
      if (item.key_begin != begin) CHECK(item.key_begin % 64 == 0);
      CHECK(item.key_end > item.key_begin);
      CHECK(item.key_end <= last + 1);
      tile.end = item.key_end;
      tile.keys += item.key_end - item.key_begin;
      if (item.partial < 0) continue;
      CHECK(item.partial == units);
      units += tile_rows / 16;
      tile.partials.push_back(item.partial);
    }
  }
  CHECK(units <= most.partials);
  for (size_t s = 0; s < batch.sequences.size(); ++s) {
    const int32_t packed = batch.sequences[s].rows * shape.group();
    const int32_t tile_rows = packed <= decode_tile_rows ? decode_tile_rows : prefill_tile_rows;
    for (int32_t row = 0; row < packed; row += tile_rows) {
      const Covered& tile = tiles[{static_cast<int32_t>(s), row}];
      CHECK(tile.end == batch.sequences[s].past + (std::min(packed, row + tile_rows) - 1) / shape.group() + 1);
      CHECK(tile.partials.size() != 1);
      CHECK(tile.partials.size() <= 128);
    }
  }
  size_t merged = 0;
  for (const AttentionMerge& merge : plan.merges) {
    const int32_t unit = merge.first_row % (merge.partial_step * 16) / 16;
    const std::vector<int32_t>& partials = tiles[{merge.sequence, merge.first_row - unit * 16}].partials;
    CHECK(merge.splits == static_cast<int32_t>(partials.size()));
    for (int32_t i = 0; i < merge.splits; ++i) {
      CHECK(partials[static_cast<size_t>(i)] + unit == merge.first_partial + i * merge.partial_step);
    }
    const int32_t packed = batch.sequences[static_cast<size_t>(merge.sequence)].rows * shape.group();
    CHECK(merge.rows == std::min(16, packed - merge.first_row));
    ++merged;
  }
  for (const auto& [key, tile] : tiles) {
    if (tile.partials.empty()) continue;
    const int32_t packed = batch.sequences[static_cast<size_t>(key.first)].rows * shape.group();
    const int32_t tile_rows = packed <= decode_tile_rows ? decode_tile_rows : prefill_tile_rows;
    merged -= static_cast<size_t>((std::min(tile_rows, packed - key.second) + 15) / 16);
  }
  CHECK(merged == 0);
}

}  // namespace

TEST(cuda_attention_plan_covers_every_key_once) {
  std::mt19937 generator(1);
  const auto below = [&](uint32_t limit) { return static_cast<int32_t>(generator() % limit); };
  for (const AttentionShape& shape :
       {AttentionShape{8, 8, 128, 0}, AttentionShape{64, 8, 128, 0}, AttentionShape{28, 4, 128, 4096},
        AttentionShape{20, 1, 64, 100}, AttentionShape{2, 1, 64, 0}, AttentionShape{96, 96, 64, 1}}) {
    for (int round = 0; round < 60; ++round) {
      const int32_t reach = std::vector<int32_t>{40, 700, 9000, 200'000}[static_cast<size_t>(round % 4)];
      std::vector<Sequence> sequences;
      const int32_t count = round % 8 == 0 ? 1 : 1 + below(12);
      for (int32_t i = 0; i < count; ++i) sequences.push_back({below(reach), below(3) == 0 ? below(300) : 1});
      const Batch batch = make_batch(sequences);
      check_plan(batch, shape, {std::max(1, batch.rows()), count, 0});
    }
  }
}

// A single sequence of a 72B model keeps a large GPU busy, and 256 short ones are not split at all.
TEST(cuda_attention_plan_fills_the_device) {
  const AttentionShape shape{64, 8, 128, 0};
  CHECK(plan_attention(make_batch({{8191, 1}}), shape).decode.size() * 8 >= 4 * 132 - 16);
  CHECK(plan_attention(make_batch({{1023, 1}}), shape).decode.size() == 8);
  CHECK(plan_attention(make_batch(std::vector<Sequence>(256, {500, 1})), shape).decode.size() == 256);
  CHECK(plan_attention(make_batch({{0, 8192}}), shape).merges.empty());
  // What plans count on: 66 + 33 wanted items, twice as many parts, of 16 and 64 rows.
  CHECK(attention_scratch_bytes(shape) == (2 * 66 + 2 * 33 * 4) * 8 * 16 * (128 + 2) * sizeof(float));
}

// The parts of a decoding sequence, as the kernel is told them.
static std::vector<std::pair<int32_t, int32_t>> decode_parts(const AttentionPlan& plan, int32_t sequence) {
  std::vector<std::pair<int32_t, int32_t>> parts;
  for (const AttentionItem& item : plan.decode) {
    if (item.sequence == sequence) parts.emplace_back(item.key_begin, item.key_end);
  }
  return parts;
}

// Up to 66 times 128 keys of all decoding sequences together (8 kv heads), a sequence is cut as if it were alone; one
// key more, and it may be cut into fewer parts.
TEST(cuda_attention_plan_depends_on_others_from_some_length_on) {
  const AttentionShape shape{64, 8, 128, 0};
  const std::vector<Sequence> few = {{4095, 1}, {2047, 1}, {1000, 1}, {1302, 1}};  // 8448 keys
  for (size_t s = 0; s < few.size(); ++s) {
    const auto alone = decode_parts(plan_attention(make_batch({few[s]}), shape), 0);
    CHECK(alone == decode_parts(plan_attention(make_batch(few), shape), static_cast<int32_t>(s)));
    std::vector<Sequence> prompt_too = few;
    prompt_too.push_back({0, 3000});
    CHECK(alone == decode_parts(plan_attention(make_batch(prompt_too), shape), static_cast<int32_t>(s)));
  }
  const std::vector<Sequence> many = {{4095, 1}, {4095, 1}, {1000, 1}};
  CHECK(decode_parts(plan_attention(make_batch({many[0]}), shape), 0).size() == 32);
  CHECK(decode_parts(plan_attention(make_batch(many), shape), 0).size() < 32);
}

TEST(cuda_batch_is_on_the_device_as_described) {
  const BatchLimits limits{40, 5, 30};
  Stream stream(Device::at(0));
  const std::vector<AttentionShape> shapes = {{4, 2, 16, 0}, {4, 2, 16, 8}};
  const DeviceMemory memory(stream.device(), gpu::BatchLayout(limits, {}, shapes).bytes);
  DeviceBatch device(stream.device(), memory.data(), limits, {}, shapes);
  const auto read = [&]<class T>(const T* from, int32_t count) {
    std::vector<T> values(static_cast<size_t>(count));
    stream.copy_to_host(values.data(), from, values.size() * sizeof(T));
    return values;
  };
  for (const auto& sequences : {std::vector<Sequence>{{0, 20}, {63, 1}, {9, 3}}, std::vector<Sequence>{{7, 1}}}) {
    Batch batch = make_batch(sequences);
    batch.logit_rows = {0, batch.rows() - 1};
    device.upload(stream, batch, 26);
    CHECK(device.rows() == 26);
    CHECK(device.sequences() == static_cast<int32_t>(sequences.size()));
    CHECK(read(device.logit_rows(), 2) == batch.logit_rows);
    std::vector<int32_t> tokens = batch.tokens, positions = batch.positions, row_sequence;
    tokens.resize(26), positions.resize(26);
    CHECK(read(device.tokens(), 26) == tokens);
    CHECK(read(device.positions(), 26) == positions);
    const std::vector<DeviceSpan> spans = read(device.spans(), device.sequences());
    for (size_t s = 0; s < sequences.size(); ++s) {
      const SequenceSpan& span = batch.sequences[s];
      CHECK(spans[s].first_row == span.first_row);
      CHECK(spans[s].rows == span.rows);
      CHECK(spans[s].past == span.past);
      CHECK(read(device.block_tables() + spans[s].first_block, span.block_count) ==
            std::vector<int32_t>(span.blocks, span.blocks + span.block_count));
      row_sequence.insert(row_sequence.end(), static_cast<size_t>(span.rows), static_cast<int32_t>(s));
    }
    row_sequence.resize(26, -1);
    CHECK(read(device.row_sequence(), 26) == row_sequence);
    for (int32_t i = 0; i < 2; ++i) {
      const AttentionPlan wanted = plan_attention(batch, shapes[static_cast<size_t>(i)]);
      const DeviceAttentionPlan& plan = device.attention_plan(i);
      const auto counts = read(plan.counts, 1)[0];
      CHECK(counts.decode == static_cast<int32_t>(wanted.decode.size()));
      CHECK(counts.prefill == static_cast<int32_t>(wanted.prefill.size()));
      CHECK(counts.merges == 0);
      const auto items = read(plan.decode, counts.decode);
      for (size_t j = 0; j < items.size(); ++j) CHECK(items[j].key_end == wanted.decode[j].key_end);
    }
  }
  // A batch is in flight while the next one is made.
  const Batch first = make_batch({{0, 20}}), second = make_batch({{7, 5}});
  device.upload(stream, first);
  const DeviceMemory positions(stream.device(), 20 * sizeof(int32_t));
  stream.copy(positions.data(), device.positions(), positions.bytes());
  device.upload(stream, second);
  CHECK(download<int32_t>(stream, positions) == first.positions);
  CHECK(read(device.positions(), 5) == second.positions);

  CHECK_THROWS(device.upload(stream, make_batch({{0, 41}})), "INTERNAL");
  CHECK_THROWS(device.upload(stream, make_batch(std::vector<Sequence>(6, {0, 1}))), "INTERNAL");
  CHECK_THROWS(device.upload(stream, make_batch({{1000, 1}})), "INTERNAL");
}

TEST(cuda_rope_tables_hold_cosines_and_sines) {
  for (const int head_dim : {8, 48, 80, 128}) {
    const int64_t half_columns = head_dim / 2 - (head_dim == 80 ? 8 : head_dim == 48 ? 3 : 0);  // partial rotations
    const Batch batch = make_batch({{0, 9}, {1000, 1, 27500.5}, {32000, 1}, {1'048'000, 2}, {5, 1, 1e6}});
    RopeSpec spec;
    spec.scale = 1.25f;
    for (int64_t i = 0; i < half_columns; ++i) {
      spec.inverse_frequency.push_back(std::pow(10000.0f, -static_cast<float>(i) / static_cast<float>(half_columns)));
    }
    const int64_t rows = batch.rows();
    const BatchLimits limits{20, 5, 70'000};
    in_every_schedule([&] {
      Stream stream(Device::at(0));
      const DeviceMemory memory(stream.device(), gpu::BatchLayout(limits, {RopeSpec(), spec}, {}).bytes);
      DeviceBatch device(stream.device(), memory.data(), limits, {RopeSpec(), spec}, {});
      device.upload(stream, batch);
      device.make_rope_tables(stream);
      const Matrix<const float> on_device = device.rope_table(1);
      std::vector<float> table(static_cast<size_t>(rows * 2 * half_columns));
      stream.copy_to_host(table.data(), on_device.data, table.size() * sizeof(float));
      for (int64_t r = 0; r < rows; ++r) {
        const int32_t position = batch.positions[static_cast<size_t>(r)];
        const double base = position == 1000 ? 27500.5 : r == rows - 1 ? 1e6 : 0;
        for (int64_t i = 0; i < half_columns; ++i) {
          double frequency = spec.inverse_frequency[static_cast<size_t>(i)];
          if (base != 0) frequency = 1 / std::pow(base, static_cast<double>(i) / static_cast<double>(half_columns));
          // The angle is fp32; of a base of its own the exponent is, too, which its logarithm magnifies.
          const double angle = position * frequency, tolerance = 1e-6 + angle * (base != 0 ? 1e-6 : 1.2e-7);
          const double c = table[static_cast<size_t>(r * 2 * half_columns + i)];
          const double s = table[static_cast<size_t>(r * 2 * half_columns + half_columns + i)];
          CHECK(std::abs(c - 1.25 * std::cos(angle)) <= 1.25 * tolerance);
          CHECK(std::abs(s - 1.25 * std::sin(angle)) <= 1.25 * tolerance);
        }
      }
    });
  }
}

// A recording of the tables reads positions, sequences and their bases where the next batch has them.
TEST(cuda_rope_tables_are_recorded_for_every_batch) {
  const std::vector<RopeSpec> ropes = {{{1.0f, 0.1f, 0.01f, 0.001f}, 1}};
  const BatchLimits limits{8, 4, 4000};
  const Batch batches[] = {make_batch({{3, 1}, {700, 1}, {9, 1}}), make_batch({{70, 1}, {11, 1, 20000.0}})};
  Stream stream(Device::at(0));
  const DeviceMemory memory(stream.device(), gpu::BatchLayout(limits, ropes, {}).bytes);
  DeviceBatch device(stream.device(), memory.data(), limits, ropes, {});
  const auto table = [&] {
    std::vector<float> values(4 * 8);
    stream.copy_to_host(values.data(), device.rope_table(0).data, values.size() * sizeof(float));
    stream.synchronize();
    return values;
  };
  std::vector<std::vector<float>> wanted;
  for (const Batch& batch : batches) {
    device.upload(stream, batch, 4);
    device.make_rope_tables(stream);
    wanted.push_back(table());
  }
  CHECK(wanted[0] != wanted[1]);
  const Graph graph = stream.capture([&] { device.make_rope_tables(stream); });
  for (const int turn : {0, 1, 0}) {
    device.upload(stream, batches[turn], 4);
    stream.launch(graph);
    CHECK(table() == wanted[static_cast<size_t>(turn)]);
  }
}
