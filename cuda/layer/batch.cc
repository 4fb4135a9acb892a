#include "layer/batch.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>

#include "engine/error.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {
namespace {

// As transformers computes them: exponents and powers rounded to fp32, then the reciprocal in fp32.
void frequencies_of_base(double base, size_t half, float* frequencies) {
  const double rounded_base = static_cast<float>(base);
  for (size_t i = 0; i < half; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(2 * half);
    frequencies[i] = 1.0f / static_cast<float>(std::pow(rounded_base, static_cast<double>(exponent)));
  }
}

size_t half_of(const RopeSpec& rope) { return rope.inverse_frequency.size(); }

void require_at_most(int64_t wanted, int64_t limit, const char* what) {
  if (wanted <= limit) return;
  throw Error("INTERNAL", "a batch of " + std::to_string(wanted) + " " + what + " on a device prepared for " +
                              std::to_string(limit));
}

}  // namespace

DeviceBatch::DeviceBatch(Device& device, void* memory, const BatchLimits& limits, const std::vector<RopeSpec>& ropes,
                         const std::vector<AttentionShape>& attention)
    : limits_(limits),
      ropes_(ropes),
      layout_(limits, ropes, attention),
      memory_(static_cast<char*>(memory)),
      image_(device, layout_.image_bytes),
      sent_(device) {
  Stream stream(device);
  for (size_t i = 0; i < ropes.size(); ++i) {
    stream.copy_to_device(memory_ + layout_.own_frequencies[i], ropes[i].inverse_frequency.data(),
                          half_of(ropes[i]) * sizeof(float));
  }
  stream.synchronize();
  for (size_t i = 0; i < attention.size(); ++i) {
    const gpu::BatchLayout::AttentionPlaces& places = layout_.attention[i];
    attention_.push_back({attention[i],
                          at<DeviceAttentionPlan::Counts>(places.counts),
                          at<AttentionItem>(places.decode),
                          at<AttentionItem>(places.prefill),
                          at<AttentionMerge>(places.merges),
                          {}});
  }
}

void DeviceBatch::upload(Stream& stream, const Batch& batch, int32_t padded_rows) {
  const int32_t real_rows = batch.rows();
  rows_ = std::max(real_rows, padded_rows);
  sequences_ = static_cast<int32_t>(batch.sequences.size());
  launched_sequences_ = padded_rows > 0 ? rows_ : sequences_;
  require_at_most(rows_, limits_.max_rows, "rows");
  require_at_most(sequences_, limits_.max_sequences, "sequences");
  drain(sent_);  // if it failed, that step reports it

  size_t used = layout_.block_tables;
  // Copies a list into the image.
  const auto put = [&](size_t place, const auto* from, size_t count) {
    if (count == 0) return;
    std::memcpy(image_.as<char>(place), from, count * sizeof(*from));
    used = std::max(used, place + count * sizeof(*from));
  };
  const auto pad = [&](size_t place, int32_t value) {
    std::fill(image_.as<int32_t>(place) + real_rows, image_.as<int32_t>(place) + rows_, value);
  };
  put(layout_.tokens, batch.tokens.data(), batch.tokens.size());
  put(layout_.positions, batch.positions.data(), batch.positions.size());
  put(layout_.logit_rows, batch.logit_rows.data(), batch.logit_rows.size());
  pad(layout_.tokens, 0);
  pad(layout_.positions, 0);
  pad(layout_.row_sequence, -1);
  if (rows_ > real_rows) {
    int32_t* const logit_rows = image_.as<int32_t>(layout_.logit_rows);
    std::fill(logit_rows + batch.logit_rows.size(), logit_rows + rows_, 0);
  }

  int32_t table_entries = 0, sets = 0;
  shortest_ = real_rows;
  longest_ = 0;
  for (int32_t i = 0; i < sequences_; ++i) {
    const SequenceSpan& span = batch.sequences[static_cast<size_t>(i)];
    shortest_ = std::min(shortest_, span.rows);
    longest_ = std::max(longest_, span.rows);
    require_at_most(int64_t{table_entries} + span.block_count, limits_.max_table_entries, "block table entries");
    put(layout_.block_tables + static_cast<size_t>(table_entries) * sizeof(int32_t), span.blocks,
        static_cast<size_t>(span.block_count));
    if (span.rope_base != 0) {
      for (size_t r = 0; r < ropes_.size(); ++r) {
        const size_t half = half_of(ropes_[r]), place = layout_.frequencies[r] + sets * half * sizeof(float);
        frequencies_of_base(span.rope_base, half, image_.as<float>(place));
        used = std::max(used, place + half * sizeof(float));
      }
      ++sets;
    }
    int32_t* row_sequence = image_.as<int32_t>(layout_.row_sequence) + span.first_row;
    std::fill(row_sequence, row_sequence + span.rows, i);
    image_.as<DeviceSpan>(layout_.spans)[i] = {
        span.first_row, span.rows, span.past, table_entries, span.rope_base != 0 ? sets : 0, span.slot};
    table_entries += span.block_count;
  }
  for (size_t i = 0; i < attention_.size(); ++i) {
    const gpu::AttentionPlan plan = gpu::plan_attention(batch, attention_[i].shape);
    const gpu::BatchLayout::AttentionPlaces& places = layout_.attention[i];
    DeviceAttentionPlan::Counts& counts = attention_[i].launched;
    counts = {static_cast<int32_t>(plan.decode.size()), static_cast<int32_t>(plan.prefill.size()),
              static_cast<int32_t>(plan.merges.size())};
    put(places.counts, &counts, 1);
    put(places.decode, plan.decode.data(), plan.decode.size());
    put(places.prefill, plan.prefill.data(), plan.prefill.size());
    put(places.merges, plan.merges.data(), plan.merges.size());
  }
  stream.copy_to_device(memory_, image_.data(), used);
  stream.record(sent_);
}

void DeviceBatch::make_rope_tables(Stream& stream) const {
  for (size_t i = 0; i < ropes_.size(); ++i) {
    const int64_t columns = 2 * static_cast<int64_t>(half_of(ropes_[i]));
    const RopeTableInput input{positions(),
                               row_sequence(),
                               spans(),
                               at<float>(layout_.own_frequencies[i]),
                               at<float>(layout_.frequencies[i]),
                               ropes_[i].scale};
    compute_rope_table(stream, input, {at<float>(layout_.rope_tables[i]), rows_, columns, columns});
  }
}

std::vector<int32_t> DeviceBatch::provide_for_more() {
  const auto rounded = [](int32_t count, int64_t limit) {
    return count == 0 ? 0 : static_cast<int32_t>(std::min<int64_t>(limit, std::bit_ceil(static_cast<uint32_t>(count))));
  };
  std::vector<int32_t> provided;
  for (size_t i = 0; i < attention_.size(); ++i) {
    const gpu::AttentionCapacity& most = layout_.attention[i].capacity;
    DeviceAttentionPlan::Counts& counts = attention_[i].launched;
    counts = {rounded(counts.decode, most.decode_items), rounded(counts.prefill, most.prefill_items),
              rounded(counts.merges, most.merges)};
    provided.insert(provided.end(), {counts.decode, counts.prefill, counts.merges});
  }
  return provided;
}

const int32_t* DeviceBatch::tokens() const { return at<int32_t>(layout_.tokens); }
const int32_t* DeviceBatch::positions() const { return at<int32_t>(layout_.positions); }
const int32_t* DeviceBatch::row_sequence() const { return at<int32_t>(layout_.row_sequence); }
const int32_t* DeviceBatch::logit_rows() const { return at<int32_t>(layout_.logit_rows); }
const DeviceSpan* DeviceBatch::spans() const { return at<DeviceSpan>(layout_.spans); }
const int32_t* DeviceBatch::block_tables() const { return at<int32_t>(layout_.block_tables); }

Matrix<const float> DeviceBatch::rope_table(int32_t rope) const {
  const int64_t columns = 2 * static_cast<int64_t>(half_of(ropes_[static_cast<size_t>(rope)]));
  return {at<float>(layout_.rope_tables[static_cast<size_t>(rope)]), rows_, columns, columns};
}

}  // namespace billfish::BILLFISH_TARGET
