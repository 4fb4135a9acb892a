#include "layer/rope.h"

#include "layer/for_each_vector.h"
#include "layer/rope_table.h"

namespace billfish::BILLFISH_TARGET {
namespace {

struct RopeTable {
  Global<const int32_t> positions, row_sequence;
  Global<const DeviceSpan> spans;
  Global<const float> own_frequencies, frequencies;
  float scale;
  Global<float> table;
  int64_t half_columns;

  template <int count>
  DEVICE void apply(int64_t row, int64_t column) const {
    const int32_t position = positions[row], sequence = row_sequence[row];
    Global<const float> from = own_frequencies;
    if (sequence >= 0) {
      const DeviceSpan span = spans[sequence];
      if (span.frequencies > 0) from = frequencies + (span.frequencies - 1) * half_columns;
    }
    float cosines[count], sines[count];
    load_floats<count, float>(from + column, cosines);
    // The accurate functions: angles reach the position itself, a million and more.
    UNROLL for (int i = 0; i < count; ++i) {
      const float angle = static_cast<float>(position) * cosines[i];
      cosines[i] = cos(angle) * scale;
      sines[i] = sin(angle) * scale;
    }
    store_floats<count, float>(table + (row * 2 * half_columns + column), cosines);
    store_floats<count, float>(table + ((row * 2 + 1) * half_columns + column), sines);
  }
};

// 4 bytes per element, and the table, which the heads of a row share in the L1 cache.
template <class Element>
struct Rotate {
  Global<Element> x;
  int64_t stride;
  Global<const float> table;
  uint32_t half_columns, head_dim;

  // `pair`: among the row's heads * half pairs, head by head.
  template <int count>
  DEVICE void apply(int64_t row, int64_t pair) const {
    const uint32_t head = static_cast<uint32_t>(pair) / half_columns, i = static_cast<uint32_t>(pair) % half_columns;
    const Global<Element> first = x + (row * stride + head * head_dim + i), second = first + half_columns;
    const Global<const float> cosine = table + (row * 2 * half_columns + i);
    float x1[count], x2[count], c[count], s[count];
    load_floats<count, Element>(first, x1);
    load_floats<count, Element>(second, x2);
    load_floats<count, float>(cosine, c);
    load_floats<count, float>(cosine + half_columns, s);
    UNROLL for (int j = 0; j < count; ++j) {
      const float rotated = x1[j] * c[j] - x2[j] * s[j];
      x2[j] = x2[j] * c[j] + x1[j] * s[j];
      x1[j] = rotated;
    }
    store_floats<count, Element>(first, x1);
    store_floats<count, Element>(second, x2);
  }
};

}  // namespace

void compute_rope_table(Stream& stream, const RopeTableInput& input, const Matrix<float>& table) {
  const int64_t half = table.columns / 2;
  for_each_vector(stream, table.rows, half, half % wide == 0,
                  RopeTable{input.positions, input.row_sequence, static_cast<const DeviceSpan*>(input.spans),
                            input.own_frequencies, input.frequencies, input.scale, table.data, half});
}

template <class Element>
void rope(Stream& stream, const DeviceBatch& batch, int32_t rope, const Matrix<Element>& x, int32_t heads,
          int32_t head_dim) {
  const Matrix<const float> table = batch.rope_table(rope);
  const int64_t half = table.columns / 2;
  for_each_vector(
      stream, x.rows, heads * half, is_wide(x) && half % wide == 0 && head_dim % wide == 0,
      Rotate<Element>{x.data, x.stride, table.data, static_cast<uint32_t>(half), static_cast<uint32_t>(head_dim)});
}

template void rope(Stream&, const DeviceBatch&, int32_t, const Matrix<half>&, int32_t, int32_t);
template void rope(Stream&, const DeviceBatch&, int32_t, const Matrix<bfloat16>&, int32_t, int32_t);

}  // namespace billfish::BILLFISH_TARGET
