#include "cuda/memory/linear_layout.h"

#include <algorithm>

namespace billfish::gpu {
namespace {

constexpr int64_t divided_up(int64_t value, int64_t divisor) { return (value + divisor - 1) / divisor; }
constexpr int64_t rounded_up(int64_t value, int64_t multiple) { return divided_up(value, multiple) * multiple; }

}  // namespace

PackedLayout::PackedLayout(const CanonicalShape& shape)
    : strips(divided_up(shape.out, strip_outputs)),
      blocks(divided_up(shape.in, padded_inputs) * (padded_inputs / block_inputs)),
      groups(divided_up(shape.in, packed_group_size(shape.group_size, shape.in))) {
  Sections sections;
  const auto entries = static_cast<size_t>(strips * groups * strip_outputs);
  const auto block_bytes = static_cast<size_t>(strip_outputs * block_inputs * shape.bits / 8);
  codes = sections.take(static_cast<size_t>(strips * blocks), block_bytes);
  scales = sections.take(entries, byte_size(shape.scale_type));
  zeros = sections.take<uint8_t>(shape.has_zero_points ? entries : 0);
  output_scales = sections.take<float>(shape.has_output_scales ? static_cast<size_t>(shape.out) : 0);
  bias = sections.take<float>(shape.has_bias ? static_cast<size_t>(shape.out) : 0);
  order = sections.take<int32_t>(static_cast<size_t>(shape.order_length()));
  total = sections.end();
}

MatrixLayout::MatrixLayout(int64_t out, int64_t in, bool has_bias) : stride(rounded_up(in, padded_elements)) {
  Sections sections;
  sections.take<uint16_t>(static_cast<size_t>(out * stride));
  bias = sections.take<float>(has_bias ? static_cast<size_t>(out) : 0);
  total = sections.end();
}

size_t linear_workspace_bytes(const LinearLimits& limits) {
  const auto gathered = static_cast<size_t>(limits.rows * gathered_stride(limits.inputs));
  return gathered_offset + gathered * sizeof(uint16_t) + limits.panel_bytes;
}

PanelShape panels_of(int64_t out, int64_t in, size_t bytes) {
  PanelShape shape = {0, rounded_up(in, padded_elements), 0};
  const int64_t fitting = static_cast<int64_t>(bytes / sizeof(uint16_t)) / shape.stride;
  const int64_t unit = fitting < 4 * strip_outputs ? strip_outputs : 4 * strip_outputs;
  const int64_t most = fitting / unit * unit;
  if (most == 0) return shape;
  if (out <= fitting / strip_outputs * strip_outputs) {
    shape.rows = rounded_up(out, strip_outputs);
  } else {
    const int64_t count = divided_up(out, most);
    shape.rows = std::min(rounded_up(divided_up(out, count), unit), most);
  }
  shape.count = divided_up(out, shape.rows);
  return shape;
}

size_t panel_bytes(int64_t out, int64_t in, int64_t rows) {
  return rows < min_panel_rows ? 0 : panels_of(out, in).bytes();
}

}  // namespace billfish::gpu
