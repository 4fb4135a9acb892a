#include "cuda/memory/batch_layout.h"

#include "cuda/memory/allocation.h"

namespace billfish::gpu {

BatchLayout::BatchLayout(const BatchLimits& limits, const std::vector<RopeSpec>& ropes,
                         const std::vector<AttentionShape>& shapes) {
  const auto rows = static_cast<size_t>(limits.max_rows), sequences = static_cast<size_t>(limits.max_sequences);
  const auto half_of = [](const RopeSpec& rope) { return rope.inverse_frequency.size(); };
  Sections sections;
  attention.resize(shapes.size());
  for (AttentionPlaces& places : attention) places.counts = sections.take<AttentionCounts>(1);
  spans = sections.take<DeviceSpan>(sequences);
  tokens = sections.take<int32_t>(rows);
  positions = sections.take<int32_t>(rows);
  row_sequence = sections.take<int32_t>(rows);
  logit_rows = sections.take<int32_t>(rows);
  for (size_t i = 0; i < shapes.size(); ++i) {
    AttentionPlaces& places = attention[i];
    places.capacity = attention_capacity(shapes[i], limits.max_rows, limits.max_sequences);
    places.decode = sections.take<AttentionItem>(static_cast<size_t>(places.capacity.decode_items));
    places.merges = sections.take<AttentionMerge>(static_cast<size_t>(places.capacity.merges));
  }
  block_tables = sections.take<int32_t>(static_cast<size_t>(limits.max_table_entries));
  for (AttentionPlaces& places : attention) {
    places.prefill = sections.take<AttentionItem>(static_cast<size_t>(places.capacity.prefill_items));
  }
  for (const RopeSpec& rope : ropes) frequencies.push_back(sections.take<float>(sequences * half_of(rope)));
  image_bytes = sections.end();
  for (const RopeSpec& rope : ropes) {
    own_frequencies.push_back(sections.take<float>(half_of(rope)));
    rope_tables.push_back(sections.take<float>(rows * 2 * half_of(rope)));
  }
  bytes = sections.end();
}

}  // namespace billfish::gpu
